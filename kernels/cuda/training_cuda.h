// The trainer's ops on CUDA (kernels/training.h has their meaning).
#pragma once
#include "kernels/training.h"

namespace aerie::cuda {

ops::AttentionOutput ttt_forward(const ops::AttentionInputs& in);
ops::AttentionGrads ttt_backward(const ops::AttentionInputs& in, const ops::AttentionOutput& out,
                                 const Tensor& grad_out);
ops::HeadLossOutput head_loss(const ops::HeadLossInputs& in);

}  // namespace aerie::cuda
