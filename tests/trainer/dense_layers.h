// Parts of the oracles: layers in their plainest form, in double precision.
#pragma once
#include <torch/types.h>

#include <cmath>

#include "kernels/ragged.h"

namespace aerie::testing {

/// Root mean square norm of the last axis (Zhang & Sennrich, arXiv 1910.07467).
inline Tensor dense_norm(const Tensor& x, const Tensor& weight, double eps) {
  return x / (x.pow(2).mean({-1}, true) + eps).sqrt() * weight;
}

/// x [N,H,D] at `positions` [N], halves turned against each other (Su et al., arXiv 2104.09864).
inline Tensor dense_rotate(const Tensor& x, const Tensor& positions, double theta) {
  const int64_t dim = x.size(-1), half = dim / 2;
  const Tensor exponent = at::arange(half, at::kDouble) * 2.0 / dim;
  const Tensor angle = positions.to(at::kDouble).view({-1, 1, 1}) * at::pow(theta, -exponent);
  const Tensor low = x.narrow(-1, 0, half), high = x.narrow(-1, half, half);
  return at::cat({low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()},
                 -1);
}

}  // namespace aerie::testing
