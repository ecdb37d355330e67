// A projection with a bias: towers have them where language models have none.
#pragma once
#include "target_models/params.h"

namespace aerie {

/// x [N,I] -> x W^T + b [N,O]
struct BiasedLinear {
  ops::LinearWeight weight;
  Tensor bias;  ///< [O]
  Tensor operator()(const Tensor& x) const { return ops::linear(x, weight).add_(bias); }
};

/// Layers `names` on top of each other; tensors "<name>.weight" [rows,in] and "<name>.bias" [rows].
BiasedLinear load_biased(ParamStore& store, const std::vector<std::string>& names, int64_t rows,
                         int64_t in, const Placement& placement);

}  // namespace aerie
