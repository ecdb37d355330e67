// A draft on disk: what is written, that it comes back, and that every damage is refused with a
// message that names file, tensor or key.
#include "draft_models/dialects.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/draft_models/golden_draft.h"

namespace aerie::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Tensors = std::vector<std::pair<std::string, Tensor>>;

/// The target that the golden draft belongs to.
ModelConfig target_config() {
  ModelConfig target;
  target.layers = 8;
  target.hidden = 32;
  target.intermediate = 48;
  target.heads = 4;
  target.kv_heads = 2;
  target.head_dim = 8;
  target.vocab = 96;
  target.max_position = 64;
  target.rms_norm_eps = 1e-5;
  target.rope.theta = 500000;
  return target;
}

VocabMap every_second_id() { return make_vocab_map(at::arange(40, at::kLong) * 2, 96); }

class Export : public ::testing::Test {
 protected:
  void SetUp() override { save(golden_config()); }

  void save(const DraftConfig& config, LayerIds ids = LayerIds::kAfterLayers) {
    save_draft(directory_, config, params_, every_second_id(), at::kFloat, ids);
  }
  std::vector<std::string> tensor_names() const { return SafetensorsFile(weights_).names(); }
  json config_json() const { return json::parse(read_file(directory_ / "config.json")); }
  LoadedDraft load() const { return load_draft(directory_, target_config()); }
  std::string refusal() const {
    return error_of([&] { load(); });
  }
  /// The message after `change` edited the tensors.
  template <typename Change>
  std::string after_tensors(const Change& change) {
    Tensors tensors;
    {
      const SafetensorsFile old(weights_);
      for (const auto& name : old.names()) tensors.emplace_back(name, old.tensor(name).clone());
    }
    change(tensors);
    write_safetensors(weights_, tensors);
    return refusal();
  }
  /// The message after `change` edited config.json.
  template <typename Change>
  std::string after_config(const Change& change) {
    json config = config_json();
    change(config);
    write_text(directory_ / "config.json", config.dump());
    return refusal();
  }
  static Tensor& find(Tensors& tensors, const std::string& name) {
    for (auto& [key, tensor] : tensors) {
      if (key == name) return tensor;
    }
    throw std::runtime_error("no tensor " + name);
  }

  const Scratch scratch_;
  const fs::path directory_ = scratch_.path() / "draft";
  const fs::path weights_ = directory_ / "model.safetensors";
  const DraftParams params_ = golden_params(golden_values());
};

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

// ---- damage to the tensors ----

TEST_F(Export, Truncated) {
  fs::resize_file(weights_, fs::file_size(weights_) - 100);
  EXPECT_THAT(refusal(), AllOf(HasSubstr(weights_.string()), HasSubstr("truncated")));
}

TEST_F(Export, EveryMissingTensor) {
  for (const std::string& name : tensor_names()) {
    save(golden_config());
    EXPECT_THAT(after_tensors([&](Tensors& tensors) {
                  std::erase_if(tensors, [&](const auto& t) { return t.first == name; });
                }),
                AllOf(HasSubstr(directory_.string()), HasSubstr(name), HasSubstr("missing")));
  }
}

TEST_F(Export, EveryWrongShape) {
  for (const std::string& name : tensor_names()) {
    save(golden_config());
    EXPECT_THAT(after_tensors([&](Tensors& tensors) {
                  Tensor& tensor = find(tensors, name);
                  tensor = tensor.narrow(0, 0, tensor.size(0) - 1).contiguous();
                }),
                AllOf(HasSubstr(weights_.string()), HasSubstr(name), HasSubstr("has shape")));
  }
}

TEST_F(Export, EveryNotFiniteTensor) {
  for (const double value : {std::nan(""), HUGE_VAL}) {
    for (const char* name : {"fc.weight", "midlayer.self_attn.v_proj.weight", "norm.weight",
                             "midlayer.mlp.up_proj.weight", "lm_head.weight"}) {
      save(golden_config());
      EXPECT_THAT(
          after_tensors([&](Tensors& tensors) { find(tensors, name).view(-1)[5] = value; }),
          AllOf(HasSubstr(weights_.string()), HasSubstr(name), HasSubstr("NaN or infinity")));
    }
  }
}

TEST_F(Export, ExtraTensor) {
  EXPECT_THAT(after_tensors([](Tensors& t) { t.emplace_back("layers.1.x", at::zeros({1})); }),
              AllOf(HasSubstr(directory_.string()), HasSubstr("layers.1.x")));
}

TEST_F(Export, TensorUnderTwoNames) {
  EXPECT_THAT(after_tensors([](Tensors& t) {
                t.emplace_back("layers.0.hidden_norm.weight", at::ones({32}));
              }),
              HasSubstr("mean the same"));
}

TEST_F(Export, VocabularyMap) {
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t")[7] = find(t, "d2t")[6] - 1; }),
              AllOf(HasSubstr("d2t"), HasSubstr("6 and 7 stand for the same target id 12")));
  save(golden_config());
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t")[39] = 57; }),
              AllOf(HasSubstr("d2t"), HasSubstr("96, outside the vocabulary of 96")));
  save(golden_config());
  // Absolute ids where offsets belong: the last ones leave the vocabulary.
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t") = at::arange(40, at::kLong) * 2; }),
              HasSubstr("offsets"));
  save(golden_config());
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "d2t") = at::zeros({40}, at::kInt); }),
              AllOf(HasSubstr("d2t"), HasSubstr("Int")));
  save(golden_config());
  EXPECT_THAT(after_tensors([](Tensors& t) { find(t, "t2d")[1] = true; }),
              AllOf(HasSubstr("t2d"), HasSubstr("does not mark")));
}

// ---- damage to config.json ----

TEST_F(Export, WrongVocabulary) {
  EXPECT_THAT(
      after_config([](json& c) { c["vocab_size"] = 40; }),
      AllOf(HasSubstr("\"vocab_size\" is 40"), HasSubstr("96"), HasSubstr("another target")));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["draft_vocab_size"] = 97; }),
              HasSubstr("between 1 and the target's vocabulary"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c.erase("draft_vocab_size"); }),
              HasSubstr("\"draft_vocab_size\" is missing"));
}

TEST_F(Export, LayerIds) {
  const auto with_ids = [&](const json& ids) {
    save(golden_config());
    return after_config([&](json& c) {
      c["eagle_aux_hidden_state_layer_ids"] = ids;
      c["eagle_config"]["eagle_aux_hidden_state_layer_ids"] = ids;
      c.erase("aerie");
      c["aerie"] = {{"layer_ids", "residual stream after k layers"}, {"target_layers", 8}};
      c["aerie"]["capture_layers"] = json::array();
      for (const auto& id : ids) c["aerie"]["capture_layers"].push_back(id.get<int>() - 1);
    });
  };
  EXPECT_THAT(with_ids({5, 4, 2}), AllOf(HasSubstr("[4,3,1]"), HasSubstr("ascending")));
  EXPECT_THAT(with_ids({2, 2, 5}), HasSubstr("each once"));
  EXPECT_THAT(with_ids({2, 4, 9}), HasSubstr("layer 8 (0-based) is not one of the target's 8"));
  EXPECT_THAT(with_ids({0, 4, 5}), HasSubstr("layer -1"));
  EXPECT_THAT(with_ids(json::array()), HasSubstr("no layer ids"));
}

TEST_F(Export, ContradictingLayerIds) {
  EXPECT_THAT(after_config([](json& c) {
                c["eagle_aux_hidden_state_layer_ids"] = json({1, 3, 4});
              }),
              HasSubstr("differs between the top level [1,3,4] and eagle_config [2,4,5]"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) {
                c["aerie"]["capture_layers"] = json({2, 4, 5});
              }),
              HasSubstr("aerie.capture_layers says [2,4,5]"));
}

TEST_F(Export, OtherTarget) {
  ModelConfig target = target_config();
  target.layers = 12;
  EXPECT_THAT(error_of([&] { load_draft(directory_, target); }),
              AllOf(HasSubstr("target_layers"), HasSubstr("another target")));
  target = target_config();
  target.hidden = 64;
  EXPECT_THAT(error_of([&] { load_draft(directory_, target); }), HasSubstr("target_hidden_size"));
}

TEST_F(Export, VariantsThatWouldComputeSomethingElse) {
  for (const char* flag : {"norm_before_residual", "norm_before_fc", "norm_output", "fc_norm"}) {
    save(golden_config());
    EXPECT_THAT(after_config([&](json& c) { c[flag] = true; }),
                AllOf(HasSubstr("config.json"), HasSubstr(flag)));
  }
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["num_hidden_layers"] = 2; }),
              HasSubstr("\"num_hidden_layers\" is 2"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["architectures"] = {"LlamaForCausalLM"}; }),
              HasSubstr("LlamaForCausalLMEagle3"));
  save(golden_config());
  EXPECT_THAT(after_config([](json& c) { c["tie_word_embeddings"] = true; }),
              HasSubstr("tie_word_embeddings"));
}

// ---- saving ----

TEST_F(Export, SavingRefusesWhatLoadingWould) {
  const auto refused = [&](const DraftParams& params, const VocabMap& vocab) {
    return error_of([&] { save_draft(directory_, golden_config(), params, vocab, at::kFloat); });
  };
  DraftParams params = golden_params(golden_values());
  params.at("norm.weight")[3] = std::nan("");
  EXPECT_THAT(refused(params, every_second_id()),
              AllOf(HasSubstr("norm.weight"), HasSubstr("NaN or infinity")));
  params = golden_params(golden_values());
  params.at("fc.weight") = at::zeros({32, 32});
  EXPECT_THAT(refused(params, every_second_id()), HasSubstr("fc.weight"));
  EXPECT_THAT(refused(params_, make_vocab_map(at::arange(39, at::kLong), 96)),
              HasSubstr("vocabulary map has 39"));
  EXPECT_EQ(refusal(), "no error was thrown") << "the old export must be untouched";
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
