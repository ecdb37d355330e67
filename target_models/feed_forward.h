// The half of a layer after attention: a gated MLP, or a mixture of such.
#pragma once
#include <functional>
#include <string>

#include "target_models/config.h"
#include "target_models/params.h"

namespace aerie {

/// x [N,C] normalised -> [N,C]. Rows do not touch each other.
using FeedForward = std::function<Tensor(const Tensor& x)>;

/// Which of them layer `index` has by `config`. `prefix` ends in "mlp.".
FeedForward load_feed_forward(ParamStore& store, const ModelConfig& config, int64_t index,
                              const std::string& prefix, const Placement& placement);

/// gate_proj, up_proj [inner,C] and down_proj [C,inner] under `prefix`; SwiGLU, or Gemma's GeGLU.
FeedForward load_gated_mlp(ParamStore& store, const ModelConfig& config, int64_t inner,
                           const std::string& prefix, const Placement& placement);

}  // namespace aerie
