// Writing a draft for llama.cpp: what it can run, its keys, its tensors.
#include <ATen/ops/arange.h>

#include <set>

#include "common/error.h"
#include "common/files.h"
#include "data/gguf_tokenizer.h"
#include "data/vocab_map.h"
#include "draft_models/file_tensors.h"
#include "draft_models/gguf_draft.h"
#include "draft_models/gguf_layout.h"
#include "draft_models/servable.h"
#include "target_models/hf_json.h"

namespace aerie {
namespace {

using namespace gguf_layout;

// Targets whose llama.cpp graph does not hand out the layers' inputs: it aborts when the first
// token is drafted (build 11434).
const std::set<std::string> kSilentTargets = {"qwen2",   "gemma3", "mistral3", "phi3",
                                              "granite", "llama4", "glm4",     "deepseek2"};

/// Hugging Face's model_type -> llama.cpp's architecture, where they differ.
std::string architecture_of(const std::string& model_type) {
  return model_type == "mistral" ? "llama" : model_type;
}

void refuse_what_cannot_run(const DraftConfig& draft, const LlamaCppTarget& target) {
  check_servable(draft, "gguf");
  AERIE_CHECK(kSilentTargets.count(target.architecture) == 0,
              "{}: llama.cpp does not hand out the hidden states of a \"{}\" target, which EAGLE-3 "
              "drafts read (nor of: {}); serve this one with vLLM or SGLang",
              target.where, target.architecture, fmt::join(kSilentTargets, ", "));
  const auto same = [&](const char* what, int64_t ours, int64_t theirs) {
    AERIE_CHECK(ours == theirs,
                "{}: the target's {} is {}, and the draft's {}: the draft was made for another "
                "target",
                target.where, what, theirs, ours);
  };
  same("hidden size", draft.target_hidden, target.hidden);
  same("number of layers", draft.target_layers > 0 ? draft.target_layers : target.layers,
       target.layers);
  AERIE_CHECK(draft.hidden == target.hidden,
              "the draft's hidden_size is {} and the target's {}: llama.cpp gives a draft the "
              "target's embeddings, so they must be equal",
              draft.hidden, target.hidden);
  AERIE_CHECK(draft.capture_layers.size() == 3,
              "the draft reads {} target layers, and llama.cpp feeds exactly 3",
              draft.capture_layers.size());
  AERIE_CHECK(draft.capture_layers.back() < target.layers - 1,
              "the draft reads the output of the target's last layer ({}, 0-based), for which "
              "llama.cpp passes an unfilled buffer without a word: train one with earlier "
              "draft.layer_ids",
              draft.capture_layers.back());
  AERIE_CHECK(draft.rope.axes() == 1,
              "the draft's RoPE has several axes (mrope), which llama.cpp's drafts have not: serve "
              "it with vLLM or SGLang");
  const std::string& rope = draft.rope.type;
  AERIE_CHECK(rope == "default" || rope == "linear" || rope == "llama3",
              "rope_type \"{}\" cannot be written for llama.cpp (default, linear and llama3 can)",
              rope);
}

GgufValue count(int64_t value) { return GgufValue::u32(static_cast<uint32_t>(value)); }
GgufValue real(double value) { return GgufValue::f32(static_cast<float>(value)); }

void add_rope(const RopeConfig& rope, int64_t head_dim, GgufMetadata& keys) {
  keys.emplace_back("eagle3.rope.freq_base", real(rope.theta));
  keys.emplace_back("eagle3.rope.dimension_count", count(head_dim));
  if (rope.type == "linear") {
    keys.emplace_back("eagle3.rope.scaling.type", GgufValue::text("linear"));
    keys.emplace_back("eagle3.rope.scaling.factor", real(rope.factor));
  }
  if (rope.type == "llama3") {  // llama.cpp reads rope_freqs; we read back what they came from
    keys.emplace_back("aerie.rope.factor", real(rope.factor));
    keys.emplace_back("aerie.rope.low_freq_factor", real(rope.low_freq_factor));
    keys.emplace_back("aerie.rope.high_freq_factor", real(rope.high_freq_factor));
    keys.emplace_back("aerie.rope.original_max_position", count(rope.original_max_position));
  }
}

GgufMetadata keys_of(const DraftConfig& draft, const LlamaCppTarget& target, at::ScalarType dtype) {
  constexpr uint32_t kFileF32 = 0, kFileBf16 = 32, kQuantizationVersion = 2;
  std::vector<int32_t> streams, outputs;
  for (const int64_t layer : draft.capture_layers) {
    outputs.push_back(static_cast<int32_t>(layer));
    streams.push_back(static_cast<int32_t>(layer) + 1);  // the stream that enters the next layer
  }
  GgufMetadata keys{
      {"general.architecture", GgufValue::text("eagle3")},
      {"general.type", GgufValue::text("model")},
      {"general.name", GgufValue::text("EAGLE-3 draft")},
      {"general.file_type", GgufValue::u32(dtype == at::kFloat ? kFileF32 : kFileBf16)},
      {"general.quantization_version", GgufValue::u32(kQuantizationVersion)},
      {"eagle3.target_layers", GgufValue::i32s(streams)},
      {"eagle3.target_hidden_size", count(draft.target_hidden)},
      {"eagle3.norm_before_residual", GgufValue::boolean(draft.norm_before_residual)},
      {"eagle3.norm_before_fc", GgufValue::boolean(false)},
      {"eagle3.block_count", count(1)},
      {"eagle3.context_length", count(draft.max_position)},
      {"eagle3.embedding_length", count(draft.hidden)},
      {"eagle3.feed_forward_length", count(draft.intermediate)},
      {"eagle3.attention.head_count", count(draft.heads)},
      {"eagle3.attention.head_count_kv", count(draft.kv_heads)},
      {"eagle3.attention.key_length", count(draft.head_dim)},
      {"eagle3.attention.value_length", count(draft.head_dim)},
      {"eagle3.attention.layer_norm_rms_epsilon", real(draft.rms_norm_eps)},
      {"eagle3.vocab_size", count(draft.vocab)},
      {"aerie.capture_layers", GgufValue::i32s(outputs)},  // output of layer i, 0-based
      {"aerie.target_layers", count(target.layers)},
      {"aerie.vocabulary", GgufValue::text(draft.vocabulary_hash)},
  };
  add_rope(draft.rope, draft.head_dim, keys);
  keys.insert(keys.end(), target.tokenizer.begin(), target.tokenizer.end());
  return keys;
}

}  // namespace

LlamaCppTarget llama_cpp_target(const fs::path& hf_dir, const DraftConfig& draft) {
  const HfJson config = HfJson::read(hf_dir / "config.json");
  const int64_t vocab = config.require_size("vocab_size");
  AERIE_CHECK(vocab == draft.vocab,
              "{}: \"vocab_size\" is {}, and the draft's is {}: the draft was made for another "
              "target",
              config.where(), vocab, draft.vocab);
  return {architecture_of(config.require<std::string>("model_type")),
          config.require_size("num_hidden_layers"), config.require_size("hidden_size"),
          hf_tokenizer_keys(hf_dir, draft.vocab), hf_dir.string()};
}

LlamaCppTarget llama_cpp_target_from_gguf(const fs::path& file, const DraftConfig& draft) {
  const GgufFile gguf(file);
  const std::string name = gguf.text("general.architecture");
  return {name, gguf.integer(name + ".block_count"), gguf.integer(name + ".embedding_length"),
          gguf_tokenizer_keys(gguf, draft.vocab), file.string()};
}

void save_gguf_draft(const fs::path& file, const DraftConfig& config, const DraftParams& params,
                     const VocabMap& vocab, const LlamaCppTarget& target, at::ScalarType dtype) {
  AERIE_CHECK(dtype == at::kBFloat16 || dtype == at::kFloat,
              "{}: a draft is saved in bfloat16 or float32, not in {}", file.string(),
              c10::toString(dtype));
  refuse_what_cannot_run(config, target);
  check_vocab_map(config, vocab, file.string());
  NamedTensors tensors;
  for (const auto& [name, value] : split_params(config, params, dtype, file.string())) {
    const int64_t heads = rotated_heads(name, config);
    Tensor written = heads > 0 ? to_pairs(value, heads) : value;
    if (written.dim() == 1) written = written.to(at::kFloat);
    tensors.emplace_back(theirs(name), written);
  }
  // A draft of the whole vocabulary in its own order needs no map.
  const bool whole = vocab.draft_to_target.equal(at::arange(config.vocab, at::kLong));
  if (!whole) tensors.emplace_back(kMap, vocab.draft_to_target);
  if (config.rope.type == "llama3") {
    tensors.emplace_back(kRopeFactors, frequency_factors(config.rope, config.head_dim));
  }
  DraftConfig stamped = config;
  stamped.vocabulary_hash = vocabulary_hash(vocab.draft_to_target, config.vocab);
  write_gguf(file, keys_of(stamped, target, dtype), tensors);
}

}  // namespace aerie
