// Drafts as llama.cpp's GGUF and as directories of the speculators library: what is written, that
// it comes back as the same draft, and what is refused.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "draft_models/gguf_draft.h"
#include "tests/draft_models/golden_draft.h"

namespace aerie::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

/// Neither ascending nor the identity: a dialect that sorts or drops the map is found out.
VocabMap shuffled_ids() { return make_vocab_map((at::arange(40, at::kLong) * 7 + 5) % 96, 96); }

LlamaCppTarget llama_target() {
  std::vector<std::string> tokens;
  for (int i = 0; i < 96; ++i) tokens.push_back(fmt::format("t{}", i));
  return {"llama", 8, 32, {{"tokenizer.ggml.tokens", GgufValue::texts(tokens)}}, "target"};
}

void expect_same_draft(const LoadedDraft& draft, const DraftParams& params, at::ScalarType type) {
  for (const auto& [name, tensor] : params.tensors) {
    const Tensor expected = tensor.to(type).to(at::kFloat);
    EXPECT_TRUE(draft.params.at(name).to(at::kFloat).equal(expected)) << name;
  }
  EXPECT_TRUE(draft.vocab.draft_to_target.equal(shuffled_ids().draft_to_target));
  EXPECT_TRUE(draft.vocab.target_to_draft.equal(shuffled_ids().target_to_draft));
  const DraftConfig config = golden_config();
  EXPECT_EQ(draft.config.capture_layers, config.capture_layers);
  EXPECT_EQ(draft.config.target_layers, config.target_layers);
  EXPECT_EQ(draft.config.max_position, config.max_position);
  EXPECT_FLOAT_EQ(static_cast<float>(draft.config.rope.theta), 500000.0F);
  EXPECT_FLOAT_EQ(static_cast<float>(draft.config.rms_norm_eps), 1e-5F);
}

class GgufDraft : public ::testing::Test {
 protected:
  void save(const DraftConfig& config, const LlamaCppTarget& target,
            at::ScalarType type = at::kFloat) {
    save_gguf_draft(file_, config, params_, shuffled_ids(), target, type);
  }
  std::string save_error(const DraftConfig& config, const LlamaCppTarget& target = llama_target()) {
    return error_of([&] { save(config, target); });
  }
  /// The message after `change` edited keys and tensors.
  template <typename Change>
  std::string load_error(const Change& change) {
    save(golden_config(), llama_target());
    GgufMetadata keys;
    std::vector<std::pair<std::string, Tensor>> tensors;
    {
      const GgufFile file(file_);
      keys = file.metadata();
      for (const auto& name : file.tensor_names()) tensors.emplace_back(name, file.tensor(name));
    }
    change(keys, tensors);
    write_gguf(file_, keys, tensors);
    return error_of([&] { load_gguf_draft(file_); });
  }
  template <typename List>
  static auto& find(List& list, const std::string& name) {
    for (auto& [key, value] : list) {
      if (key == name) return value;
    }
    throw std::runtime_error("no " + name);
  }

  const Scratch scratch_;
  const fs::path file_ = scratch_.path() / "draft.gguf";
  const DraftParams params_ = golden_params(golden_values());
};

TEST_F(GgufDraft, ComesBack) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    save(golden_config(), llama_target(), type);
    expect_same_draft(load_gguf_draft(file_), params_, type);
  }
}

TEST_F(GgufDraft, KeysOfTheRecipe) {
  save(golden_config(), llama_target(), at::kBFloat16);
  const GgufFile file(file_);
  EXPECT_EQ(file.text("general.architecture"), "eagle3");
  EXPECT_EQ(file.integer("general.file_type"), 32);
  // Outputs of layers 1, 3, 4 are the streams that enter layers 2, 4, 5.
  EXPECT_EQ(find(file.metadata(), "eagle3.target_layers"), GgufValue::i32s({2, 4, 5}));
  EXPECT_THAT(file.integers("aerie.capture_layers"), ElementsAre(1, 3, 4));
  const std::pair<const char*, int64_t> sizes[] = {
      {"target_hidden_size", 32},     {"block_count", 1},          {"context_length", 64},
      {"embedding_length", 32},       {"feed_forward_length", 48}, {"attention.head_count", 4},
      {"attention.head_count_kv", 2}, {"attention.key_length", 8}, {"attention.value_length", 8},
      {"rope.dimension_count", 8},    {"vocab_size", 96}};
  for (const auto& [key, value] : sizes) {
    EXPECT_EQ(file.integer(fmt::format("eagle3.{}", key)), value) << key;
  }
  EXPECT_FLOAT_EQ(static_cast<float>(file.number("eagle3.rope.freq_base")), 500000.0F);
  EXPECT_EQ(find(file.metadata(), "tokenizer.ggml.tokens"), llama_target().tokenizer[0].second);
}

TEST_F(GgufDraft, NamesTypesAndRowsOfTheRecipe) {
  save(golden_config(), llama_target(), at::kBFloat16);
  const GgufFile file(file_);
  EXPECT_THAT(
      file.tensor_names(),
      UnorderedElementsAre("fc.weight", "blk.0.attn_norm.weight", "blk.0.attn_norm_2.weight",
                           "blk.0.ffn_norm.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight",
                           "blk.0.attn_v.weight", "blk.0.attn_output.weight",
                           "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight",
                           "output_norm.weight", "output.weight", "d2t"));
  EXPECT_EQ(file.tensor("output_norm.weight").scalar_type(), at::kFloat);
  EXPECT_EQ(file.tensor("fc.weight").scalar_type(), at::kBFloat16);
  EXPECT_TRUE(file.tensor("d2t").equal(shuffled_ids().draft_to_target));  // ids, not offsets
  EXPECT_TRUE(file.tensor("blk.0.attn_norm.weight")
                  .equal(params_.at("midlayer.input_layernorm.weight").to(at::kBFloat16)));

  // Row h*D + 2i + s of a rotated projection is row h*D + s*D/2 + i of ours.
  const Tensor ours = params_.at("midlayer.self_attn.q_proj.weight").to(at::kBFloat16);
  const Tensor written = file.tensor("blk.0.attn_q.weight");
  const int64_t dim = golden_config().head_dim;
  for (int64_t row = 0; row < ours.size(0); ++row) {
    const int64_t head = row / dim, half = row % dim / (dim / 2), i = row % (dim / 2);
    EXPECT_TRUE(written[head * dim + 2 * i + half].equal(ours[row])) << row;
  }
  const Tensor kv = params_.at("midlayer.self_attn.kv_proj.weight").to(at::kBFloat16);
  const Tensor keys = kv.narrow(0, 0, kv.size(0) / 2), values = kv.narrow(0, kv.size(0) / 2, 16);
  EXPECT_TRUE(file.tensor("blk.0.attn_k.weight")[1].equal(keys[4]));
  EXPECT_TRUE(file.tensor("blk.0.attn_v.weight").equal(values));
}

TEST_F(GgufDraft, WholeVocabularyNeedsNoMap) {
  DraftConfig config = golden_config();
  config.draft_vocab = 96;
  DraftParams params = params_;
  params.at("lm_head.weight") = at::rand({96, 32});
  save_gguf_draft(file_, config, params, make_vocab_map(at::arange(96, at::kLong), 96),
                  llama_target(), at::kFloat);
  EXPECT_FALSE(GgufFile(file_).has_tensor("d2t"));
  EXPECT_EQ(load_gguf_draft(file_).vocab.draft_to_target.numel(), 96);
}

TEST_F(GgufDraft, ScaledRopeComesBack) {
  DraftConfig config = golden_config();
  config.rope = {.type = "llama3",
                 .theta = 500000,
                 .factor = 8,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .original_max_position = 32};
  save(config, llama_target());
  const Tensor factors = GgufFile(file_).tensor("rope_freqs.weight");
  // The fastest rotation turns 32 / (2 pi) = 5.09 times in the original context: kept.
  EXPECT_FLOAT_EQ(factors[0].item<float>(), 1);
  EXPECT_FLOAT_EQ(factors[3].item<float>(), 8);  // the slowest rotation is stretched in full
  EXPECT_EQ(load_gguf_draft(file_).config.rope.type, "llama3");
  EXPECT_DOUBLE_EQ(load_gguf_draft(file_).config.rope.factor, 8);
  config.rope = {.type = "linear", .theta = 500000, .factor = 4};
  save(config, llama_target());
  EXPECT_EQ(GgufFile(file_).text("eagle3.rope.scaling.type"), "linear");
  EXPECT_DOUBLE_EQ(load_gguf_draft(file_).config.rope.factor, 4);
}

TEST_F(GgufDraft, WhatLlamaCppRunsWronglyOrNotIsNotWritten) {
  DraftConfig config = golden_config();
  config.capture_layers = {1, 3, 7};
  EXPECT_THAT(save_error(config), AllOf(HasSubstr("last layer"), HasSubstr("unfilled")));
  config.capture_layers = {1, 3};
  EXPECT_THAT(save_error(config), HasSubstr("exactly 3"));
  LlamaCppTarget target = llama_target();
  target.architecture = "qwen2";
  EXPECT_THAT(save_error(golden_config(), target), HasSubstr("\"qwen2\""));
  target = llama_target();
  target.layers = 12;
  EXPECT_THAT(save_error(golden_config(), target),
              AllOf(HasSubstr("is 12"), HasSubstr("draft's 8")));
  target = llama_target();
  target.hidden = 64;
  EXPECT_THAT(save_error(golden_config(), target), HasSubstr("hidden size is 64"));
  EXPECT_FALSE(fs::exists(file_));
}

TEST_F(GgufDraft, DamageIsNamed) {
  const auto no_error = [](auto&, auto&) {};
  EXPECT_EQ(load_error(no_error), "no error was thrown");
  EXPECT_THAT(load_error([](auto&, auto& tensors) { tensors.pop_back(); }),
              AllOf(HasSubstr("output.weight"), HasSubstr("[40,32]")));
  EXPECT_THAT(load_error([](auto&, auto& tensors) { tensors.erase(tensors.begin()); }),
              AllOf(HasSubstr("fc.weight"), HasSubstr("missing")));
  EXPECT_THAT(load_error([](auto&, auto& tensors) {
                find(tensors, "blk.0.attn_k.weight")[3][3] = std::nan("");
              }),
              AllOf(HasSubstr("draft.gguf"), HasSubstr("blk.0.attn_k.weight"), HasSubstr("NaN")));
  EXPECT_THAT(load_error([](auto&, auto& tensors) {
                tensors.emplace_back("blk.0.attn_q_norm.weight", at::ones({8}));
              }),
              HasSubstr("blk.0.attn_q_norm.weight"));
  EXPECT_THAT(load_error([](auto&, auto& tensors) {
                find(tensors, "d2t") = at::arange(40, at::kLong).remainder(39);
              }),
              AllOf(HasSubstr("\"d2t\""), HasSubstr("same target id")));
  EXPECT_THAT(load_error([](auto&, auto& tensors) { find(tensors, "d2t")[0] = 96; }),
              HasSubstr("outside the vocabulary of 96"));
  EXPECT_THAT(load_error([](auto& keys, auto&) {
                find(keys, "eagle3.target_layers") = GgufValue::i32s({4, 2, 5});
              }),
              HasSubstr("[4,2,5]"));
  EXPECT_THAT(load_error([](auto& keys, auto&) {
                find(keys, "eagle3.target_layers") = GgufValue::i32s({1, 3, 4});
              }),
              HasSubstr("aerie.capture_layers"));
  EXPECT_THAT(load_error([](auto& keys, auto&) {
                find(keys, "eagle3.norm_before_fc") = GgufValue::boolean(true);
              }),
              HasSubstr("norm_before_fc"));
  EXPECT_THAT(load_error([](auto& keys, auto&) {
                find(keys, "tokenizer.ggml.tokens") = GgufValue::texts({"a", "b"});
              }),
              HasSubstr("2 tokens"));
  EXPECT_THAT(load_error([](auto& keys, auto&) {
                find(keys, "general.architecture") = GgufValue::text("llama");
              }),
              HasSubstr("\"llama\""));
}

// ---- speculators ----

class Speculators : public ::testing::Test {
 protected:
  void SetUp() override {
    save_speculators_draft(directory_, golden_config(), params_, shuffled_ids(),
                           {"some/target", {"LlamaForCausalLM"}, 5}, at::kFloat);
  }
  json config_json() const { return json::parse(read_file(directory_ / "config.json")); }
  template <typename Change>
  std::string after(const Change& change) {
    json config = config_json();
    change(config);
    write_text(directory_ / "config.json", config.dump());
    return error_of([&] { load_draft(directory_, testing::small_target()); });
  }

  const Scratch scratch_;
  const fs::path directory_ = scratch_.path() / "draft";
  const DraftParams params_ = golden_params(golden_values());
};

TEST_F(Speculators, ComesBack) {
  expect_same_draft(load_draft(directory_, testing::small_target()), params_, at::kFloat);
}

TEST_F(Speculators, NamesAndKeysOfTheFormat) {
  const SafetensorsFile file(directory_ / "model.safetensors");
  EXPECT_TRUE(file.contains("layers.0.self_attn.q_proj.weight"));
  EXPECT_TRUE(file.contains("d2t"));
  for (const std::string& name : file.names()) EXPECT_FALSE(name.starts_with("midlayer.")) << name;

  const json config = config_json();
  EXPECT_EQ(config.at("speculators_model_type"), "eagle3");
  EXPECT_EQ(config.at("architectures"), json({"Eagle3Speculator"}));
  EXPECT_EQ(config.at("eagle_aux_hidden_state_layer_ids"), json({2, 4, 5}));
  EXPECT_EQ(config.at("norm_before_residual"), false);
  EXPECT_EQ(config.at("draft_vocab_size"), 40);
  const json& body = config.at("transformer_layer_config");
  EXPECT_EQ(body.at("model_type"), "llama");
  EXPECT_EQ(body.at("num_hidden_layers"), 1);
  EXPECT_EQ(body.at("vocab_size"), 96);
  EXPECT_EQ(body.at("rope_theta"), 500000.0);
  const json& serving = config.at("speculators_config");
  EXPECT_EQ(serving.at("algorithm"), "eagle3");
  EXPECT_EQ(serving.at("proposal_methods").at(0).at("speculative_tokens"), 5);
  EXPECT_EQ(serving.at("verifier").at("name_or_path"), "some/target");
}

TEST_F(Speculators, OthersFilesReadToo) {
  // A file of the library itself: no stamp, layer ids always after k layers.
  EXPECT_EQ(after([](json& config) { config.erase("aerie"); }), "no error was thrown");
  EXPECT_THAT(load_draft(directory_, testing::small_target()).config.capture_layers,
              ElementsAre(1, 3, 4));
}

TEST_F(Speculators, OtherKindsAreRefused) {
  EXPECT_THAT(after([](json& config) { config["speculators_model_type"] = "dflash"; }),
              HasSubstr("\"dflash\""));
  SetUp();
  // Absent means true in this format.
  EXPECT_EQ(after([](json& config) { config.erase("norm_before_residual"); }), kNoError);
  EXPECT_TRUE(load_draft(directory_, target_config()).config.norm_before_residual);
  EXPECT_THAT(error_of([&] {
                save_speculators_draft(directory_, golden_config(), params_, shuffled_ids(), {});
              }),
              HasSubstr("--target"));
}

}  // namespace
}  // namespace aerie::testing
