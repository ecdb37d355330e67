// What Gemma 3's config.json says beside the usual; its layers are those of dense.cpp.
#pragma once
#include "target_models/config.h"

namespace aerie {

class HfJson;

/// Fills ModelConfig::gemma. Throws Error for the variants that would change the result: soft caps,
/// attention in both directions, another activation.
void read_gemma3(const HfJson& file, ModelConfig& config);

}  // namespace aerie
