// Mixtures of experts as Qwen2-MoE and Qwen3-MoE have them in place of the MLP.
#pragma once
#include "target_models/feed_forward.h"

namespace aerie {

class HfJson;

/// The keys of config.json that say how many experts there are and which layers have them.
void read_moe(const HfJson& file, ModelConfig& config);

/// A router that picks experts_per_token of the experts by softmax, their weighted sum, and (Qwen2)
/// a shared expert behind a gate. `prefix` ends in "mlp.".
FeedForward load_moe(ParamStore& store, const ModelConfig& config, const std::string& prefix,
                     const Placement& placement);

}  // namespace aerie
