// CosyVoice 3's language model: Qwen2 reads text and writes speech tokens, 25 a second.
#pragma once
#include "target_models/config.h"

namespace aerie {

/// Two streams share one row of ids, so that packs, caches and drafts need to know of no second
/// one: speech ids as they are (the codes, then those that open, end and turn a sequence), then the
/// text's. The embedding is the tables of both, one on top of the other; the head is speech's.
void read_cosyvoice3(const HfJson& file, ModelConfig& config);

}  // namespace aerie
