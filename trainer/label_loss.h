// Cross-entropy against hard labels over a large vocabulary.
#pragma once
#include "kernels/ops.h"

namespace aerie {

struct LabelLoss {
  Tensor total;  ///< [] f32: sum of weights * loss, differentiable for `hidden`
  Tensor loss;   ///< [R] f32
  Tensor hit;    ///< [R] bool: the label is the likeliest token
};

/// hidden [R,C], head [V,C] frozen, labels [R] i64, weights [R] f32. In pieces of rows, with the
/// gradient in the same pass: nothing of size [R,V] exists.
LabelLoss label_loss(const Tensor& hidden, const ops::LinearWeight& head, const Tensor& labels,
                     const Tensor& weights);

}  // namespace aerie
