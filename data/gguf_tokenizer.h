// The "tokenizer.*" keys of a GGUF file. A draft for llama.cpp carries its target's: they say how
// many tokens there are and how each is spelt. A draft is never asked to encode text.
#pragma once
#include <cstdint>
#include <filesystem>

#include "data/gguf.h"

namespace aerie {

/// Of a Hugging Face directory (tokenizer.json, tokenizer_config.json, config.json), `vocab`
/// tokens: ids that no token has are marked unused. Byte-level BPE only (Llama 3, Qwen, SmolLM,
/// ...); Throws Error for any other, naming the way out: the keys of the target's own GGUF. The
/// pre-tokenizer, which only encoding needs, is written as "default".
GgufMetadata hf_tokenizer_keys(const std::filesystem::path& model_dir, int64_t vocab);

/// Of the target's GGUF, byte for byte. Throws Error if it has none or not `vocab` tokens.
GgufMetadata gguf_tokenizer_keys(const GgufFile& target, int64_t vocab);

}  // namespace aerie
