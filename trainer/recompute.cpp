#include "trainer/recompute.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

namespace aerie {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Carries the function to the backward.
struct Held : torch::CustomClassHolder {
  explicit Held(TensorFunction function) : f(std::move(function)) {}
  TensorFunction f;
};

struct Recomputed : torch::autograd::Function<Recomputed> {
  static variable_list forward(AutogradContext* context, at::TensorList inputs,
                               const c10::intrusive_ptr<Held>& held) {
    context->set_materialize_grads(false);
    context->save_for_backward(inputs.vec());
    context->saved_data["f"] = at::IValue::make_capsule(held);
    return held->f(inputs.vec());
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    variable_list inputs;
    for (const at::Tensor& saved : context->get_saved_variables()) {
      inputs.push_back(saved.detach().requires_grad_(saved.requires_grad()));
    }
    const auto held =
        c10::static_intrusive_pointer_cast<Held>(context->saved_data["f"].toCapsule());
    variable_list outputs, output_grads;
    {
      const at::AutoGradMode enable(true);
      const variable_list all = held->f(inputs);
      for (size_t i = 0; i < all.size(); ++i) {
        if (!grads[i].defined()) continue;
        outputs.push_back(all[i]);
        output_grads.push_back(grads[i]);
      }
    }
    torch::autograd::backward(outputs, output_grads);
    variable_list result;
    for (const at::Tensor& input : inputs) result.push_back(input.grad());
    result.emplace_back();  // the function
    return result;
  }
};

}  // namespace

std::vector<at::Tensor> recomputed(const TensorFunction& f, const std::vector<at::Tensor>& inputs) {
  return Recomputed::apply(at::TensorList(inputs), c10::make_intrusive<Held>(f));
}

}  // namespace aerie
