// Memory for time: a piece of the forward that keeps its inputs only and runs again in the
// backward.
#pragma once
#include <torch/types.h>

#include <functional>
#include <vector>

namespace aerie {

/// A function of tensors without side effects; what else it needs it must hold by value, or outlive
/// the backward.
using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// f(inputs), recorded for autograd such that of the forward pass only the inputs are kept: the
/// backward computes f again (Chen et al., arXiv 1604.06174). Values and gradients are those of
/// f(inputs), bit for bit; parameters that f reads receive their gradients as usual.
std::vector<at::Tensor> recomputed(const TensorFunction& f, const std::vector<at::Tensor>& inputs);

}  // namespace aerie
