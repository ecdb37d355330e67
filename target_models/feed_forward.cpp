#include "target_models/feed_forward.h"

#include <algorithm>

#include "target_models/moe.h"

namespace aerie {

FeedForward load_gated_mlp(ParamStore& store, const ModelConfig& config, int64_t inner,
                           const std::string& prefix, const Placement& placement) {
  auto gate_up = load_linear(store, {prefix + "gate_proj.weight", prefix + "up_proj.weight"},
                             {inner, inner}, config.hidden, placement);
  auto down = load_linear(store, {prefix + "down_proj.weight"}, {config.hidden}, inner, placement);
  const auto activate = config.gemma.on ? ops::geglu : ops::swiglu;
  return [gate_up = std::move(gate_up), down = std::move(down), activate](const Tensor& x) {
    return ops::linear(activate(ops::linear(x, gate_up)), down);
  };
}

FeedForward load_feed_forward(ParamStore& store, const ModelConfig& config, int64_t index,
                              const std::string& prefix, const Placement& placement) {
  const auto& dense = config.moe.dense_layers;
  const bool mixed =
      config.moe.experts > 0 && !std::binary_search(dense.begin(), dense.end(), index);
  return mixed ? load_moe(store, config, prefix, placement)
               : load_gated_mlp(store, config, config.intermediate, prefix, placement);
}

}  // namespace aerie
