// Reading config.json: both styles, and everything that must be refused by name.
#include "target_models/config.h"

#include <gmock/gmock.h>

#include "target_models/hf_json.h"
#include "target_models/rope.h"
#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ConfigTest : public ::testing::Test {
 protected:
  /// The message that reading `model` gives after `from` became `to` in its config.json.
  std::string refusal(const std::string& model, const std::string& from, const std::string& to) {
    const Scratch scratch;
    const fs::path directory = copy_model(scratch, model);
    edit_text(directory / "config.json", from, to);
    return error_of([&] { load_target(directory, at::kCPU, at::kFloat); });
  }
};

TEST_F(ConfigTest, TransformersFiveStyle) {
  const ModelConfig config = read_model_config(golden_dir() / "models/qwen3_tied");
  EXPECT_EQ(config.model_type, "qwen3");
  EXPECT_EQ(config.architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(config.layers, 8);
  EXPECT_EQ(config.hidden, 32);
  EXPECT_EQ(config.intermediate, 48);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.vocab, 96);
  EXPECT_EQ(config.max_position, 128);
  EXPECT_DOUBLE_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_DOUBLE_EQ(config.rope.theta, 1e6);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(config.qk_norm, QkNorm::kBeforeRope);
  EXPECT_FALSE(config.qkv_bias);
}

TEST_F(ConfigTest, TextIdsFollowThoseOfSpeech) {
  const ModelConfig config = read_model_config(golden_dir() / "models/cosyvoice3");
  EXPECT_EQ(config.vocab, 96);
  EXPECT_EQ(config.text_vocab, 264);
  EXPECT_EQ(config.input_vocab(), 360);
  EXPECT_EQ(config.eos_tokens.size(), 8u);
  const ModelConfig text = read_model_config(golden_dir() / "models/qwen2");
  EXPECT_EQ(text.input_vocab(), text.vocab);
  EXPECT_THAT(
      refusal("cosyvoice3", R"("tie_word_embeddings": false)", R"("tie_word_embeddings": true)"),
      HasSubstr("the head of a model that speaks is its own"));
  EXPECT_THAT(refusal("cosyvoice3", R"("speech_token_size": 88)", R"("speech_token_size": 94)"),
              HasSubstr("94 speech tokens with the ids that frame them are more"));
}

TEST_F(ConfigTest, TransformersFourStyle) {
  const ModelConfig llama = read_model_config(golden_dir() / "models/llama3_rope_tied");
  EXPECT_EQ(llama.rope.type, "llama3");
  EXPECT_DOUBLE_EQ(llama.rope.theta, 10000);
  EXPECT_DOUBLE_EQ(llama.rope.factor, 4);
  EXPECT_DOUBLE_EQ(llama.rope.low_freq_factor, 1);
  EXPECT_DOUBLE_EQ(llama.rope.high_freq_factor, 4);
  EXPECT_EQ(llama.rope.original_max_position, 32);
  const ModelConfig mistral = read_model_config(golden_dir() / "models/mistral_linear_rope");
  EXPECT_EQ(mistral.rope.type, "linear");  // under the older key "type"
  EXPECT_DOUBLE_EQ(mistral.rope.factor, 2);
  const ModelConfig qwen2 = read_model_config(golden_dir() / "models/qwen2");
  EXPECT_EQ(qwen2.head_dim, 8);  // hidden_size / num_attention_heads, as in Hugging Face's class
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_EQ(qwen2.rope.type, "default");
}

TEST_F(ConfigTest, EndOfTextTokensOfBothFiles) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "llama");
  EXPECT_THAT(read_model_config(directory).eos_tokens, ElementsAre(2));
  write_text(directory / "generation_config.json", R"({"eos_token_id": [7, 2, 5]})");
  EXPECT_THAT(read_model_config(directory).eos_tokens, ElementsAre(2, 5, 7));
}

TEST_F(ConfigTest, NoDefaultForAShape) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                          "num_attention_heads", "max_position_embeddings", "rms_norm_eps"}) {
    EXPECT_THAT(refusal("llama", fmt::format("\"{}\"", key), "\"something_else\""),
                AllOf(HasSubstr("config.json"), HasSubstr(key), HasSubstr("missing")));
  }
  // Hugging Face's class default would be 128 here, whatever the other sizes are.
  EXPECT_THAT(refusal("qwen3_tied", "\"head_dim\"", "\"no_head_dim\""), HasSubstr("\"head_dim\""));
  EXPECT_THAT(refusal("qwen2", "\"num_key_value_heads\"", "\"something_else\""),
              HasSubstr("\"num_key_value_heads\""));
}

TEST_F(ConfigTest, WrongTypesAndValues) {
  EXPECT_THAT(refusal("llama", "\"hidden_size\": 32", "\"hidden_size\": \"32\""),
              AllOf(HasSubstr("\"hidden_size\""), HasSubstr("an integer")));
  EXPECT_THAT(refusal("llama", "\"vocab_size\": 96", "\"vocab_size\": 0"), HasSubstr("at least 1"));
  EXPECT_THAT(refusal("llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
              HasSubstr("no multiple of \"num_key_value_heads\" 3"));
  EXPECT_THAT(refusal("llama", "{", ""), AllOf(HasSubstr("config.json"), HasSubstr("JSON")));
}

TEST_F(ConfigTest, UnknownModelTypeListsTheKnown) {
  EXPECT_THAT(refusal("llama", "\"model_type\": \"llama\"", "\"model_type\": \"gpt_neox\""),
              AllOf(HasSubstr("config.json"), HasSubstr("\"gpt_neox\""),
                    HasSubstr("known: llama, mistral, qwen2, qwen3")));
}

TEST_F(ConfigTest, UnsupportedRopeTypes) {
  for (const char* type : {"longrope", "su", "mystery"}) {
    EXPECT_THAT(
        refusal("llama3_rope_tied", "\"llama3\"", fmt::format("\"{}\"", type)),
        AllOf(HasSubstr("config.json: rope_scaling"), HasSubstr(fmt::format("\"{}\"", type)),
              HasSubstr("supported types: default, linear, dynamic, llama3, yarn")));
    EXPECT_THAT(refusal("qwen3_tied", "\"default\"", fmt::format("\"{}\"", type)),
                AllOf(HasSubstr("config.json: rope_parameters"), HasSubstr(type)));
  }
  EXPECT_THAT(refusal("llama3_rope_tied", "\"factor\"", "\"faktor\""), HasSubstr("\"factor\""));
  EXPECT_THAT(refusal("llama", "\"rope_theta\": 500000.0",
                      "\"rope_theta\": 500000.0, \"partial_rotary_factor\": 0.5"),
              HasSubstr("partial_rotary_factor"));
}

TEST_F(ConfigTest, WhatWouldChangeTheResultIsRefused) {
  const std::string brace = "{\n";
  const auto with = [&](const std::string& model, const std::string& key) {
    return refusal(model, brace, brace + key + ",\n");
  };
  EXPECT_THAT(with("llama", R"("quantization_config": {"quant_method": "gptq", "bits": 4})"),
              AllOf(HasSubstr("quantization_config"), HasSubstr("\"gptq\"")));
  EXPECT_THAT(refusal("llama", "\"attention_bias\": false", "\"attention_bias\": true"),
              HasSubstr("\"attention_bias\" is true"));
  EXPECT_THAT(refusal("llama", "\"mlp_bias\": false", "\"mlp_bias\": true"),
              HasSubstr("\"mlp_bias\" is true"));
  EXPECT_THAT(refusal("llama", "\"silu\"", "\"gelu\""), HasSubstr("hidden_act"));
  EXPECT_THAT(refusal("qwen2", "\"use_sliding_window\": false", "\"use_sliding_window\": true"),
              HasSubstr("sliding"));
  EXPECT_THAT(
      refusal("mistral_linear_rope", "\"sliding_window\": null", "\"sliding_window\": 4096"),
      HasSubstr("sliding"));
  // Without the key Hugging Face's Mistral has a window of 4096.
  EXPECT_THAT(refusal("mistral_linear_rope", "\"sliding_window\"", "\"other\""),
              HasSubstr("sliding"));
  EXPECT_THAT(refusal("qwen3_tied", "\"full_attention\"", "\"sliding_attention\""),
              HasSubstr("sliding_attention"));
}

TEST_F(ConfigTest, MissingDirectory) {
  EXPECT_THAT(error_of([] { read_model_config("/nowhere/model"); }),
              AllOf(HasSubstr("/nowhere/model"), HasSubstr("Hugging Face model directory")));
}

TEST(CaptureLayers, DefaultsAndRefusal) {
  EXPECT_THAT(default_capture_layers(32), ElementsAre(1, 15, 28));
  EXPECT_THAT(default_capture_layers(30), ElementsAre(1, 14, 26));
  EXPECT_THAT(default_capture_layers(7), ElementsAre(1, 2, 3));
  EXPECT_THAT(error_of([] { default_capture_layers(6); }), HasSubstr("draft.layer_ids"));
}

TEST_F(ConfigTest, MixtureOfExperts) {
  const ModelConfig config = read_model_config(golden_dir() / "models/qwen3_moe");
  EXPECT_EQ(config.moe.experts, 6);
  EXPECT_EQ(config.moe.experts_per_token, 2);
  EXPECT_EQ(config.moe.intermediate, 24);
  EXPECT_EQ(config.moe.shared_intermediate, 0);
  EXPECT_TRUE(config.moe.normalise);
  EXPECT_THAT(config.moe.dense_layers, ElementsAre(1));
  EXPECT_EQ(read_model_config(golden_dir() / "models/qwen2_moe").moe.shared_intermediate, 40);
  EXPECT_THAT(refusal("qwen3_moe", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 7"),
              HasSubstr("more than the 6 experts"));
  EXPECT_THAT(refusal("qwen3_moe", "\"norm_topk_prob\"", "\"other\""), HasSubstr("norm_topk_prob"));
}

TEST_F(ConfigTest, Hunyuan) {
  const ModelConfig config = read_model_config(golden_dir() / "models/hunyuan_dense");
  EXPECT_EQ(config.qk_norm, QkNorm::kAfterRope);
  EXPECT_EQ(config.rope.type, "dynamic");
  EXPECT_DOUBLE_EQ(config.rope.alpha, 1000);
}

TEST_F(ConfigTest, Qwen3VlsAxesTakeTurnsWhateverTheFileSays) {
  const Scratch scratch;
  const fs::path directory = copy_model(scratch, "qwen3_vl");
  edit_text(directory / "config.json", "\"mrope_interleaved\": true",
            "\"mrope_interleaved\": false");
  const ModelConfig config = read_model_config(directory);
  EXPECT_THAT(config.rope.sections, ElementsAre(4, 2, 2));
  EXPECT_TRUE(config.rope.interleaved);
  EXPECT_FALSE(config.rope.per_dimension);
  EXPECT_EQ(config.qk_norm, QkNorm::kBeforeRope);
  EXPECT_TRUE(read_model_config(golden_dir() / "models/qwen3_vl_moe").moe.normalise);
}

TEST_F(ConfigTest, HunyuanOcrInBothStyles) {
  const ModelConfig newer = read_model_config(golden_dir() / "models/hunyuan_vl");
  EXPECT_THAT(newer.rope.sections, ElementsAre(2, 2, 2, 2));
  EXPECT_TRUE(newer.rope.per_dimension);
  // The published file keeps the decoder's keys among its own and calls its RoPE by another name.
  const auto json =
      nlohmann::json::parse(R"({"architectures": ["HunYuanVLForConditionalGeneration"],
    "model_type": "hunyuan_vl", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 80,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "vocab_size": 264, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "rope_scaling": {"type": "xdrope", "alpha": 1000.0, "factor": 1.0,
                     "xdrope_section": [2, 2, 2, 2]}, "vision_config": {}})");
  const ModelConfig published = model_config_from(HfJson(json, "published"));
  for (const ModelConfig& config : {newer, published}) {
    EXPECT_EQ(config.rope.type, "dynamic");
    EXPECT_DOUBLE_EQ(config.rope.alpha, 1000);
    EXPECT_DOUBLE_EQ(config.rope.theta, 10000);
    EXPECT_EQ(config.rope.axes(), 4);
    EXPECT_EQ(config.qk_norm, QkNorm::kAfterRope);
    EXPECT_TRUE(config.tied_head);
  }
  EXPECT_THAT(refusal("hunyuan_vl", "\"mrope_section\"", "\"other\""),
              HasSubstr("must name four: token, column, row, image"));
  EXPECT_THAT(refusal("qwen2_5_vl", "\"mrope_section\": [", "\"mrope_section\": [ 0,"),
              HasSubstr("must name three: time, height, width"));
}

TEST_F(ConfigTest, TowersThatWouldSeeSomethingElseAreRefused) {
  EXPECT_THAT(refusal("qwen3_vl", "\"gelu_pytorch_tanh\"", "\"relu\""),
              AllOf(HasSubstr("vision_config"), HasSubstr("\"relu\"")));
  EXPECT_THAT(
      refusal("qwen3_vl", "\"deepstack_visual_indexes\": [", "\"deepstack_visual_indexes\": [ 2,"),
      HasSubstr("must be ascending layers"));
  EXPECT_THAT(
      refusal("qwen3_vl", "\"num_position_embeddings\": 25", "\"num_position_embeddings\": 24"),
      HasSubstr("visual.pos_embed.weight"));
  EXPECT_THAT(refusal("hunyuan_vl", "\"bilinear\"", "\"bicubic\""),
              HasSubstr("\"interpolate_mode\" is \"bicubic\""));
}

TEST_F(ConfigTest, Gemma3InBothStyles) {
  const ModelConfig config = read_model_config(golden_dir() / "models/gemma3");
  EXPECT_TRUE(config.gemma.on);
  EXPECT_TRUE(config.tied_head);
  EXPECT_THAT(config.gemma.sliding, ElementsAre(true, true, false, true));
  EXPECT_EQ(config.gemma.window, 9);
  EXPECT_EQ(config.rope.type, "linear");
  EXPECT_DOUBLE_EQ(config.rope.theta, 1e6);
  EXPECT_DOUBLE_EQ(config.gemma.local_rope.theta, 1e4);

  // As transformers 4 wrote it: every sixth layer sees everything.
  const HfJson older({{"architectures", {"Gemma3ForCausalLM"}},
                      {"model_type", "gemma3_text"},
                      {"hidden_activation", "gelu_pytorch_tanh"},
                      {"hidden_size", 64},
                      {"intermediate_size", 96},
                      {"num_hidden_layers", 7},
                      {"num_attention_heads", 4},
                      {"num_key_value_heads", 1},
                      {"head_dim", 256},
                      {"vocab_size", 100},
                      {"max_position_embeddings", 128},
                      {"rms_norm_eps", 1e-6},
                      {"query_pre_attn_scalar", 256},
                      {"sliding_window", 512},
                      {"rope_theta", 1e6},
                      {"rope_local_base_freq", 5000.0},
                      {"rope_scaling", nullptr},
                      {"attn_logit_softcapping", nullptr}},
                     "config.json");
  const ModelConfig four = model_config_from(older);
  EXPECT_THAT(four.gemma.sliding, ElementsAre(true, true, true, true, true, false, true));
  EXPECT_DOUBLE_EQ(four.gemma.query_scale, 1.0 / 16);
  EXPECT_DOUBLE_EQ(four.gemma.embed_scale, 8);
  EXPECT_DOUBLE_EQ(four.rope.theta, 1e6);
  EXPECT_DOUBLE_EQ(four.gemma.local_rope.theta, 5000);

  EXPECT_THAT(refusal("gemma3", "\"gelu_pytorch_tanh\"", "\"gelu\""),
              HasSubstr("hidden_activation"));
  EXPECT_THAT(
      refusal("gemma3", "\"final_logit_softcapping\": null", "\"final_logit_softcapping\": 30.0"),
      HasSubstr("soft caps"));
}

/// Every type at a real size (scripts/make_golden_models.py rope).
TEST(Rope, FrequenciesEqualTransformers) {
  const fs::path file = golden_dir() / "rope.json";
  for (const auto& entry : nlohmann::json::parse(read_file(file))) {
    SCOPED_TRACE(entry.at("name").get<std::string>());
    const RopeConfig rope = read_rope_config(HfJson(entry.at("config"), file.string()));
    const int64_t head_dim = entry.at("head_dim");
    const Tensor frequencies = inverse_frequencies(rope, head_dim);
    const auto values = entry.at("inverse_frequencies").get<std::vector<double>>();
    const Tensor expected = at::tensor(values, at::kDouble);
    ASSERT_EQ(frequencies.sizes(), expected.sizes());
    const Tensor error = ((frequencies.to(at::kDouble) - expected) / expected).abs().max();
    EXPECT_LE(error.item<double>(), 2e-6);
    EXPECT_NEAR(attention_scaling(rope), entry.at("attention_factor").get<double>(), 1e-9);
    const ops::RopeTable table = make_rope_table(rope, head_dim, 2, at::kCPU);
    EXPECT_NEAR(table.cos[0][0].item<double>(), attention_scaling(rope), 1e-6);
  }
}

// Llama 3.1: factor 8, low 1, high 4, original 8192, theta 500000, D = 128. By hand: dimension 0
// (wavelength 2 pi) is kept, the last (wavelength 2.6e6 > 8192) is divided by 8.
TEST(Rope, Llama3Frequencies) {
  const RopeConfig rope{.type = "llama3",
                        .theta = 500000,
                        .factor = 8,
                        .low_freq_factor = 1,
                        .high_freq_factor = 4,
                        .original_max_position = 8192};
  const Tensor frequencies = inverse_frequencies(rope, 128);
  const Tensor plain = inverse_frequencies({.theta = 500000}, 128);
  ASSERT_EQ(frequencies.numel(), 64);
  EXPECT_FLOAT_EQ(frequencies[0].item<float>(), 1.0f);
  EXPECT_FLOAT_EQ(frequencies[63].item<float>(), plain[63].item<float>() / 8);
  // Dimension 32: wavelength 2 pi sqrt(500000) = 4442.88, smooth = (8192 / 4442.88 - 1) / 3.
  EXPECT_NEAR(frequencies[32].item<double>() / plain[32].item<double>(),
              (1 - 0.281281) / 8 + 0.281281, 1e-5);
}

}  // namespace
}  // namespace aerie::testing
