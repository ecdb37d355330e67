// A draft as one GGUF file for llama.cpp (architecture "eagle3", --spec-type draft-eagle3).
#pragma once
#include <filesystem>
#include <string>

#include "data/gguf.h"
#include "draft_models/dialects.h"

namespace aerie {

/// What a draft for llama.cpp takes from its target.
struct LlamaCppTarget {
  std::string architecture;  ///< as llama.cpp calls it: "llama", "qwen3", ...
  int64_t layers = 0, hidden = 0;
  GgufMetadata tokenizer;  ///< "tokenizer.*"
  std::string where;       ///< for messages
};

/// From a Hugging Face directory; its tokenizer must be byte-level BPE.
LlamaCppTarget llama_cpp_target(const std::filesystem::path& hf_dir, const DraftConfig& draft);
/// From the target's own GGUF: the tokenizer's keys byte for byte.
LlamaCppTarget llama_cpp_target_from_gguf(const std::filesystem::path& file,
                                          const DraftConfig& draft);

/// Writes `file` whole or not at all: matrices in `dtype` (bf16 or f32), norms f32, rows of q and k
/// in llama.cpp's order, d2t as target ids, layer ids as streams after k layers. Throws Error for
/// what llama.cpp cannot run or would run wrongly without a word: a target whose graph hands out no
/// layer inputs, another number of layers than three, and the last layer's output.
void save_gguf_draft(const std::filesystem::path& file, const DraftConfig& config,
                     const DraftParams& params, const VocabMap& vocab, const LlamaCppTarget& target,
                     at::ScalarType dtype = at::kBFloat16);

/// Reads a draft and proves it as load_draft does: every key, name, shape and value, d2t one-to-one
/// and inside the vocabulary, layer ids. Throws Error naming file, key or tensor and fix.
LoadedDraft load_gguf_draft(const std::filesystem::path& file);

}  // namespace aerie
