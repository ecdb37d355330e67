#include "kernels/cuda_layers.h"

#include <torch/csrc/autograd/custom_function.h>

#include "kernels/autograd.h"

namespace aerie::ops::cuda {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

void remember(AutogradContext* context, const CudaOps& kernels) {
  context->saved_data["kernels"] = reinterpret_cast<int64_t>(&kernels);
}

const CudaOps& recall(AutogradContext* context) {
  const int64_t kernels = context->saved_data["kernels"].toInt();
  return *reinterpret_cast<const CudaOps*>(kernels);  // NOLINT(performance-no-int-to-ptr)
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& weight,
                          double eps, const CudaOps* kernels) {
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    remember(context, *kernels);
    return kernels->rms_norm(x, weight, eps);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    const variable_list saved = context->get_saved_variables();
    const NormGrads grads = recall(context).rms_norm_backward(
        grad[0], saved[0], saved[1], context->saved_data["eps"].toDouble());
    return {grads.x, grads.weight.to(saved[1].scalar_type()), Tensor(), Tensor()};
  }
};

/// The gradient is turned back by the same angles.
struct Rope : torch::autograd::Function<Rope> {
  static Variable forward(AutogradContext* context, const Variable& x, const Tensor& positions,
                          const Tensor& cos, const Tensor& sin, const CudaOps* kernels) {
    context->save_for_backward({positions, cos, sin});
    remember(context, *kernels);
    return kernels->rope(x, positions, {cos, sin}, false);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    const variable_list saved = context->get_saved_variables();
    return {recall(context).rope(grad[0], saved[0], {saved[1], saved[2]}, true), Tensor(), Tensor(),
            Tensor(), Tensor()};
  }
};

struct Swiglu : torch::autograd::Function<Swiglu> {
  static Variable forward(AutogradContext* context, const Variable& gate_up,
                          const CudaOps* kernels) {
    context->save_for_backward({gate_up});
    remember(context, *kernels);
    return kernels->swiglu(gate_up);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    return {recall(context).swiglu_backward(grad[0], context->get_saved_variables()[0]), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, const CudaOps& kernels) {
  if (wants_grad(x, weight)) return RmsNorm::apply(x, weight, eps, &kernels);
  return kernels.rms_norm(x, weight, eps);
}

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table,
            const CudaOps& kernels) {
  if (wants_grad(x)) return Rope::apply(x, positions, table.cos, table.sin, &kernels);
  return kernels.rope(x, positions, table, false);
}

Tensor swiglu(const Tensor& gate_up, const CudaOps& kernels) {
  if (wants_grad(gate_up)) return Swiglu::apply(gate_up, &kernels);
  return kernels.swiglu(gate_up);
}

}  // namespace aerie::ops::cuda
