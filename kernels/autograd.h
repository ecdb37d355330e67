// The differentiable forms of linear, rms_norm, swiglu and rope where fast CPU kernels exist
// (bf16). ops.cpp comes here when a gradient is wanted; elsewhere ATen's autograd differentiates
// the composed forms.
#pragma once
#include <ATen/core/grad_mode.h>

#include "kernels/ops.h"

namespace aerie::ops {

/// Whether what is computed from these has to be recorded.
template <typename... Tensors>
bool wants_grad(const Tensors&... inputs) {
  return at::GradMode::is_enabled() && (inputs.requires_grad() || ...);
}

}  // namespace aerie::ops

namespace aerie::ops::autograd {

/// Whether the kernels below serve these activations on this machine.
bool supported(const Tensor& x);

/// The weight's gradient does not travel through the graph: it is added to master.grad() where it
/// arises, so that no [O,I] buffer is made for each of the unroll's steps.
Tensor linear(const Tensor& x, const LinearWeight& weight);
/// weight f32
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
Tensor swiglu(const Tensor& gate_up);
Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table);

/// master.grad() of a weight, zeros the first time.
Tensor& gradient_of(Tensor& master);

}  // namespace aerie::ops::autograd
