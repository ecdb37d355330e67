// A draft on disk: what is written, and that it comes back.
#include <ATen/ops/rand.h>

#include "target_models/rope.h"
#include "tests/draft_models/export_fixture.h"

namespace aerie::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(Export, ComesBack) {
  const LoadedDraft draft = load();
  const DraftConfig config = golden_config();
  EXPECT_EQ(draft.config.capture_layers, config.capture_layers);
  EXPECT_EQ(draft.config.target_layers, 8);
  EXPECT_EQ(draft.config.draft_vocab, 40);
  EXPECT_DOUBLE_EQ(draft.config.rope.theta, 500000);
  for (const auto& [name, tensor] : params_.tensors) {
    EXPECT_TRUE(draft.params.at(name).equal(tensor)) << name;
  }
  EXPECT_TRUE(draft.vocab.draft_to_target.equal(every_second_id().draft_to_target));
  EXPECT_TRUE(draft.vocab.target_to_draft.equal(every_second_id().target_to_draft));
  EXPECT_FALSE(draft.embed.defined());
}

TEST_F(Export, Bfloat16Rounds) {
  save_draft(directory_, golden_config(), params_, every_second_id());
  EXPECT_EQ(config_json().at("torch_dtype"), "bfloat16");
  const LoadedDraft draft = load();
  for (const auto& [name, tensor] : params_.tensors) {
    EXPECT_TRUE(draft.params.at(name).equal(tensor.to(at::kBFloat16))) << name;
  }
}

TEST_F(Export, NamesAndTypesOfThePlainDialect) {
  const SafetensorsFile file(weights_);
  EXPECT_THAT(file.names(),
              ::testing::UnorderedElementsAre(
                  "fc.weight", "midlayer.hidden_norm.weight", "midlayer.input_layernorm.weight",
                  "midlayer.post_attention_layernorm.weight", "midlayer.self_attn.q_proj.weight",
                  "midlayer.self_attn.k_proj.weight", "midlayer.self_attn.v_proj.weight",
                  "midlayer.self_attn.o_proj.weight", "midlayer.mlp.gate_proj.weight",
                  "midlayer.mlp.up_proj.weight", "midlayer.mlp.down_proj.weight", "norm.weight",
                  "lm_head.weight", "d2t", "t2d"));
  const Tensor d2t = file.tensor("d2t");  // offsets: 2i - i
  EXPECT_TRUE(d2t.equal(at::arange(40, at::kLong)));
  EXPECT_EQ(file.tensor("t2d").scalar_type(), at::kBool);
  EXPECT_EQ(file.tensor("t2d").sum().item<int64_t>(), 40);
}

TEST_F(Export, ConfigSaysEverythingThatLoadersGuess) {
  const json config = config_json();
  EXPECT_EQ(config.at("architectures"), json({"LlamaForCausalLMEagle3"}));
  EXPECT_EQ(config.at("model_type"), "llama");
  EXPECT_EQ(config.at("num_hidden_layers"), 1);
  EXPECT_EQ(config.at("vocab_size"), 96);
  EXPECT_EQ(config.at("draft_vocab_size"), 40);
  EXPECT_EQ(config.at("head_dim"), 8);
  EXPECT_EQ(config.at("rope_theta"), 500000.0);
  EXPECT_EQ(config.at("rope_parameters").at("rope_theta"), 500000.0);
  EXPECT_TRUE(config.at("rope_scaling").is_null());
  EXPECT_EQ(config.at("tie_word_embeddings"), false);
  for (const char* flag : {"norm_before_residual", "norm_before_fc", "norm_output", "fc_norm"}) {
    EXPECT_EQ(config.at(flag), false) << flag;
  }
  // Outputs of layers 1, 3, 4 are the streams after 2, 4, 5 layers.
  EXPECT_EQ(config.at("eagle_aux_hidden_state_layer_ids"), json({2, 4, 5}));
  EXPECT_EQ(config.at("eagle_config").at("eagle_aux_hidden_state_layer_ids"), json({2, 4, 5}));
  EXPECT_EQ(config.at("aerie").at("capture_layers"), json({1, 3, 4}));
}

TEST_F(Export, OutputOfLayerDialect) {
  save(golden_config(), LayerIds::kOutputOfLayer);
  EXPECT_EQ(config_json().at("eagle_aux_hidden_state_layer_ids"), json({1, 3, 4}));
  EXPECT_EQ(load().config.capture_layers, golden_config().capture_layers);
}

TEST_F(Export, ScaledRopeComesBack) {
  DraftConfig config = golden_config();
  config.rope = {.type = "llama3",
                 .theta = 500000,
                 .factor = 8,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .original_max_position = 32};
  save(config);
  EXPECT_EQ(config_json().at("rope_scaling").at("rope_type"), "llama3");
  const RopeConfig rope = load().config.rope;
  EXPECT_EQ(rope.type, "llama3");
  EXPECT_DOUBLE_EQ(rope.theta, 500000);
  EXPECT_DOUBLE_EQ(rope.factor, 8);
  EXPECT_DOUBLE_EQ(rope.high_freq_factor, 4);
  EXPECT_EQ(rope.original_max_position, 32);
}

/// What a server computes from the exported file is what the draft was trained with.
TEST_F(Export, EveryRopeComesBack) {
  const std::vector<RopeConfig> ropes = {
      {.type = "linear", .theta = 500000, .factor = 2.5},
      {.type = "dynamic", .theta = 10000, .factor = 1, .alpha = 1000},
      {.type = "yarn", .theta = 1e6, .factor = 4, .original_max_position = 16},
      {.type = "yarn",
       .theta = 1e6,
       .factor = 4,
       .original_max_position = 16,
       .beta_fast = 24,
       .beta_slow = 2,
       .truncate = false,
       .attention_factor = 0.75},
      {.type = "yarn",
       .theta = 1e6,
       .factor = 40,
       .original_max_position = 16,
       .mscale = 1,
       .mscale_all_dim = 0.5}};
  for (const RopeConfig& rope : ropes) {
    DraftConfig config = golden_config();
    config.rope = rope;
    save(config);
    EXPECT_EQ(config_json().at("rope_parameters").at("rope_type"), rope.type);
    const RopeConfig back = load().config.rope;
    EXPECT_TRUE(inverse_frequencies(back, 8).equal(inverse_frequencies(rope, 8)));
    EXPECT_DOUBLE_EQ(attention_scaling(back), attention_scaling(rope));
  }
}

TEST_F(Export, FullVocabularyNeedsNoMap) {
  DraftConfig config = golden_config();
  config.draft_vocab = 96;
  DraftParams params = params_;
  params.at("lm_head.weight") = at::rand({96, 32});
  save_draft(directory_, config, params, make_vocab_map(at::arange(96, at::kLong), 96), at::kFloat);
  EXPECT_EQ(load().vocab.draft_to_target.numel(), 96);
  EXPECT_EQ(after_tensors([](Tensors& tensors) {
              std::erase_if(tensors,
                            [](const auto& t) { return t.first == "d2t" || t.first == "t2d"; });
            }),
            "no error was thrown");
  EXPECT_TRUE(load().vocab.target_to_draft.equal(at::arange(96, at::kLong)));
}

TEST_F(Export, OtherSpellingsOfTheNames) {
  for (const char* prefix : {"layers.0.", "model.layers.0.", "model.midlayer."}) {
    save(golden_config());
    EXPECT_EQ(after_tensors([&](Tensors& tensors) {
                for (auto& [name, tensor] : tensors) {
                  if (name.starts_with("midlayer.")) name.replace(0, 9, prefix);
                }
              }),
              "no error was thrown");
    for (const auto& [name, tensor] : params_.tensors) {
      EXPECT_TRUE(load().params.at(name).equal(tensor)) << name;
    }
  }
}

TEST_F(Export, OwnEmbeddingIsUsed) {
  const Tensor embed = at::rand({96, 32});
  EXPECT_EQ(
      after_tensors([&](Tensors& tensors) { tensors.emplace_back("embed_tokens.weight", embed); }),
      "no error was thrown");
  EXPECT_TRUE(load().embed.equal(embed));
}

TEST_F(Export, ForeignFilesMustStateTheirLayerIds) {
  EXPECT_THAT(after_config([](json& config) { config.erase("aerie"); }),
              AllOf(HasSubstr("config.json"), HasSubstr("does not say how")));
  const auto layers = [&](LayerIds ids) {
    return load_draft(directory_, target_config(), ids).config.capture_layers;
  };
  EXPECT_THAT(layers(LayerIds::kAfterLayers), ElementsAre(1, 3, 4));
  EXPECT_THAT(layers(LayerIds::kOutputOfLayer), ElementsAre(2, 4, 5));
}

TEST(DraftConfigFor, TakesTheTargetsShape) {
  const DraftConfig config = draft_config_for(target_config(), 40, {});
  EXPECT_THAT(config.capture_layers, ElementsAre(1, 3, 4));
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_THAT(error_of([] { draft_config_for(target_config(), 97, {}); }),
              HasSubstr("draft.vocab_size is 97"));
  EXPECT_THAT(error_of([] {
                draft_config_for(target_config(), 40, {1, 8});
              }),
              HasSubstr("draft.layer_ids"));
  ModelConfig small = target_config();
  small.layers = 3;
  EXPECT_THAT(error_of([&] { draft_config_for(small, 40, {}); }), HasSubstr("draft.layer_ids"));
}

}  // namespace
}  // namespace aerie::testing
