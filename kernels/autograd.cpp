#include "kernels/autograd.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "common/threads.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/outer_product.h"
#include "kernels/cpu/rows_avx512.h"
#include "kernels/cpu/tensor_bits.h"

namespace aerie::ops::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Rows of a task, and of a partial sum of a norm's weight gradient: fixed, so that the sum has one
// order.
constexpr int64_t kRows = 64;

struct LinearFunction : Function<LinearFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const Variable& master,
                          const LinearWeight& weight) {
    context->save_for_backward({master.requires_grad() ? x : Variable(), master});
    context->saved_data["transpose"] = weight.packed_transpose;
    context->saved_data["inputs"] = weight.in_features;
    context->saved_data["x"] = x.requires_grad();
    return cpu::linear(x, weight.packed, weight.out_features);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor dy = grads[0].contiguous();
    Tensor dx;
    if (context->saved_data["x"].toBool()) {
      dx = cpu::linear(dy, context->saved_data["transpose"].toTensor(),
                       context->saved_data["inputs"].toInt());
    }
    if (Tensor master = saved[1]; master.requires_grad()) {
      const Tensor x = saved[0].contiguous();
      aerie::cpu::add_outer_product({.sum = gradient_of(master).mutable_data_ptr<float>(),
                                     .outputs = master.size(0),
                                     .inputs = master.size(1),
                                     .rows = x.size(0),
                                     .dy = bits(dy),
                                     .dy_stride = master.size(0),
                                     .x = bits(x),
                                     .x_stride = master.size(1)});
    }
    return {dx, Tensor(), Tensor()};
  }
};

/// body(first row, rows) in parallel.
template <typename Body>
void in_row_blocks(int64_t rows, const Body& body) {
  parallel_for(0, rows, kRows, [&](int64_t begin, int64_t end) { body(begin, end - begin); });
}

struct RmsNormFunction : Function<RmsNormFunction> {
  static Variable forward(AutogradContext* context, const Variable& input, const Variable& weight,
                          double eps) {
    const Tensor x = input.contiguous(), w = weight.contiguous();
    context->save_for_backward({x, w});
    context->saved_data["eps"] = eps;
    context->saved_data["x"] = input.requires_grad();
    context->saved_data["w"] = weight.requires_grad();
    return cpu::rms_norm(x, w, eps);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1], dy = grads[0].contiguous();
    const int64_t c = x.size(-1), rows_in_all = x.numel() / c,
                  parts = (rows_in_all + kRows - 1) / kRows;
    Tensor dx, dw, partial;
    if (context->saved_data["x"].toBool()) dx = at::empty_like(x);
    if (context->saved_data["w"].toBool()) {
      dw = at::zeros_like(w);
      partial = at::zeros({parts, c}, w.options());
    }
    const auto eps = static_cast<float>(context->saved_data["eps"].toDouble());
    in_row_blocks(rows_in_all, [&](int64_t row, int64_t rows) {
      aerie::cpu::rms_norm_backward_rows(
          dx.defined() ? mutable_bits(dx) + row * c : nullptr,
          partial.defined() ? partial.mutable_data_ptr<float>() + row / kRows * c : nullptr,
          bits(dy) + row * c, bits(x) + row * c, w.const_data_ptr<float>(), rows, c, eps);
    });
    for (int64_t part = 0; dw.defined() && part < parts; ++part) {
      aerie::cpu::add_rows(dw.mutable_data_ptr<float>(), partial.const_data_ptr<float>() + part * c,
                           c);
    }
    return {dx, dw, Tensor()};
  }
};

struct SwigluFunction : Function<SwigluFunction> {
  static Variable forward(AutogradContext* context, const Variable& input) {
    const Tensor gate_up = input.contiguous();
    context->save_for_backward({gate_up});
    return cpu::swiglu(gate_up);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const Tensor gate_up = context->get_saved_variables()[0], dy = grads[0].contiguous();
    const int64_t width = dy.size(1);
    Tensor result = at::empty_like(gate_up);
    in_row_blocks(dy.size(0), [&](int64_t row, int64_t rows) {
      aerie::cpu::swiglu_backward_rows(mutable_bits(result) + row * 2 * width,
                                       bits(dy) + row * width, bits(gate_up) + row * 2 * width,
                                       rows, width);
    });
    return {result};
  }
};

struct RopeFunction : Function<RopeFunction> {
  static Variable forward(AutogradContext* context, const Variable& x, const Tensor& positions,
                          const Tensor& cos, const Tensor& sin) {
    context->save_for_backward({positions.contiguous(), cos.contiguous(), sin.contiguous()});
    return cpu::rope(x, positions, {cos, sin});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const Tensor dy = grads[0].contiguous();
    Tensor dx = at::empty_like(dy);
    const int64_t heads = dy.size(1), d = dy.size(2), width = heads * d;
    const aerie::cpu::RopeRows rope{saved[1].const_data_ptr<float>(),
                                    saved[2].const_data_ptr<float>(), heads, d};
    const int64_t* positions = saved[0].const_data_ptr<int64_t>();
    in_row_blocks(dy.size(0), [&](int64_t row, int64_t rows) {
      aerie::cpu::rope_backward_rows(mutable_bits(dx) + row * width, bits(dy) + row * width,
                                     positions + row, rows, rope);
    });
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor& gradient_of(Tensor& master) {
  Tensor& grad = master.mutable_grad();
  if (!grad.defined()) grad = at::zeros_like(master, at::MemoryFormat::Contiguous).detach();
  return grad;
}

bool supported(const Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kBFloat16 &&
         aerie::cpu::best_isa() >= aerie::cpu::Isa::kAvx512;
}

Tensor linear(const Tensor& x, const LinearWeight& weight) {
  return LinearFunction::apply(x, weight.weight, weight);
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

Tensor swiglu(const Tensor& gate_up) { return SwigluFunction::apply(gate_up); }

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  return RopeFunction::apply(x, positions, table.cos, table.sin);
}

}  // namespace aerie::ops::autograd
