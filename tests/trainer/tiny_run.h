// A whole run in a temporary directory: a target of a few thousand random weights as a Hugging Face
// directory, a tokenizer of single characters, and short random chats.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>

#include "common/files.h"
#include "configs/run_config.h"
#include "data/safetensors.h"
#include "tests/testing.h"

namespace aerie::testing {

constexpr int64_t kTinyHidden = 32, kTinyInner = 48, kTinyLayers = 8, kTinyHeads = 2,
                  kTinyHeadDim = 16;

/// Specials, newline, then the printable characters.
inline nlohmann::ordered_json tiny_vocabulary() {
  nlohmann::ordered_json vocab{{"<unk>", 0}, {"<|im_start|>", 1}, {"<|im_end|>", 2}, {"\n", 3}};
  for (char c = ' '; c <= '~'; ++c) vocab[std::string(1, c)] = vocab.size();
  return vocab;
}

inline void write_tiny_tokenizer(const fs::path& directory) {
  using nlohmann::ordered_json;
  ordered_json added = ordered_json::array();
  for (int id = 0; id < 3; ++id) {
    const char* names[] = {"<unk>", "<|im_start|>", "<|im_end|>"};
    added.push_back({{"id", id},
                     {"content", names[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const ordered_json tokenizer{{"version", "1.0"},
                               {"truncation", nullptr},
                               {"padding", nullptr},
                               {"added_tokens", added},
                               {"normalizer", nullptr},
                               {"pre_tokenizer", nullptr},
                               {"post_processor", nullptr},
                               {"decoder", {{"type", "Fuse"}}},
                               {"model",
                                {{"type", "BPE"},
                                 {"dropout", nullptr},
                                 {"unk_token", "<unk>"},
                                 {"continuing_subword_prefix", nullptr},
                                 {"end_of_word_suffix", nullptr},
                                 {"fuse_unk", false},
                                 {"byte_fallback", false},
                                 {"vocab", tiny_vocabulary()},
                                 {"merges", ordered_json::array()}}}};
  const ordered_json settings{
      {"eos_token", "<|im_end|>"},
      {"chat_template",
       "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
       "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"}};
  write_file_atomic(directory / "tokenizer.json", tokenizer.dump());
  write_file_atomic(directory / "tokenizer_config.json", settings.dump());
}

inline void write_tiny_target(const fs::path& directory) {
  fs::create_directories(directory);
  const auto vocab = static_cast<int64_t>(tiny_vocabulary().size());
  const nlohmann::ordered_json config{{"architectures", {"LlamaForCausalLM"}},
                                      {"model_type", "llama"},
                                      {"hidden_size", kTinyHidden},
                                      {"intermediate_size", kTinyInner},
                                      {"num_hidden_layers", kTinyLayers},
                                      {"num_attention_heads", kTinyHeads},
                                      {"num_key_value_heads", 1},
                                      {"head_dim", kTinyHeadDim},
                                      {"vocab_size", vocab},
                                      {"max_position_embeddings", 512},
                                      {"rms_norm_eps", 1e-5},
                                      {"rope_theta", 10000.0},
                                      {"hidden_act", "silu"},
                                      {"tie_word_embeddings", true},
                                      {"eos_token_id", 2},
                                      {"torch_dtype", "bfloat16"}};
  write_file_atomic(directory / "config.json", config.dump());
  write_tiny_tokenizer(directory);

  at::manual_seed(5);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    const bool norm = shape.size() == 1;
    const at::Tensor value = norm ? at::ones(shape) : at::randn(shape) * 0.3;
    tensors.emplace_back(name, value.to(at::kBFloat16));
  };
  add("model.embed_tokens.weight", {vocab, kTinyHidden});
  for (int64_t layer = 0; layer < kTinyLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {kTinyHidden});
    add(prefix + "post_attention_layernorm.weight", {kTinyHidden});
    add(prefix + "self_attn.q_proj.weight", {kTinyHeads * kTinyHeadDim, kTinyHidden});
    add(prefix + "self_attn.k_proj.weight", {kTinyHeadDim, kTinyHidden});
    add(prefix + "self_attn.v_proj.weight", {kTinyHeadDim, kTinyHidden});
    add(prefix + "self_attn.o_proj.weight", {kTinyHidden, kTinyHeads * kTinyHeadDim});
    add(prefix + "mlp.gate_proj.weight", {kTinyInner, kTinyHidden});
    add(prefix + "mlp.up_proj.weight", {kTinyInner, kTinyHidden});
    add(prefix + "mlp.down_proj.weight", {kTinyHidden, kTinyInner});
  }
  add("model.norm.weight", {kTinyHidden});
  write_safetensors(directory / "model.safetensors", tensors);
}

inline void write_chats(const fs::path& file, int rows, uint32_t seed) {
  std::mt19937 random(seed);
  std::ofstream stream(file);
  const auto words = [&random](int length) {
    std::string text;
    for (int i = 0; i < length; ++i) text += "abcdefgh "[random() % 9];
    return text + ".";
  };
  for (int row = 0; row < rows; ++row) {
    const nlohmann::ordered_json chat{
        {"id", "row-" + std::to_string(row)},
        {"conversations",
         {{{"role", "user"}, {"content", words(3 + static_cast<int>(random() % 8))}},
          {{"role", "assistant"}, {"content", words(8 + static_cast<int>(random() % 20))}}}}};
    stream << chat.dump() << "\n";
  }
}

/// A run of two dozen steps over `directory`'s target and chats, which it writes where they are
/// missing.
inline RunConfig tiny_run(const fs::path& directory, const std::string& name) {
  if (!fs::exists(directory / "target")) {
    write_tiny_target(directory / "target");
    write_chats(directory / "train.jsonl", 60, 1);
    write_chats(directory / "heldout.jsonl", 8, 2);
  }
  RunConfig config;
  config.target.path = directory / "target";
  config.draft.vocab_size = 64;
  config.data.train = {directory / "train.jsonl"};
  config.data.heldout = directory / "heldout.jsonl";
  config.data.cache = directory / "data";
  config.train.unroll = 3;
  config.train.pack_tokens = 128;
  config.train.epochs = 1;
  config.train.checkpoint_every = 3;
  config.optim.warmup_steps = 4;
  config.eval.every = 8;
  config.eval.prompts = 0;
  config.output.dir = directory / name;
  return config;
}

/// Where a child finds its settings, one a line.
constexpr const char* kSetVariable = "AERIE_TEST_SET";

/// The run with lines of "section.key=value", as --set gives them.
inline RunConfig with_settings(const RunConfig& config, const std::string& lines) {
  std::vector<std::string> overrides;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);) overrides.push_back(line);
  // A process may be killed while it reads its file: each has its own, beside the run.
  const fs::path file = beside(config.output.dir, "." + std::to_string(::getpid()) + ".yaml");
  write_file_atomic(file, to_yaml(config));
  return read_run_config(file, overrides);
}

}  // namespace aerie::testing
