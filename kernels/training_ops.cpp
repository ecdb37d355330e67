// Checks the arguments of the trainer's ops, records them for autograd and picks the kernel.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <fmt/ranges.h>

#include "common/error.h"
#include "kernels/autograd.h"
#include "kernels/cpu/training.h"
#include "kernels/cuda_ops.h"
#include "kernels/device.h"

namespace aerie::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

void check(const char* op, const char* name, const Tensor& tensor, at::IntArrayRef expected,
           at::ScalarType type) {
  bool fits = tensor.defined() && tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; fits && i < expected.size(); ++i) {
    fits = expected[i] < 0 || tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  AERIE_CHECK(fits && tensor.scalar_type() == type,
              "{}: {} is {} [{}] where {} [{}] is needed (-1: any)", op, name,
              tensor.defined() ? c10::toString(tensor.scalar_type()) : "undefined",
              fmt::join(tensor.defined() ? tensor.sizes() : at::IntArrayRef(), ","),
              c10::toString(type), fmt::join(expected, ","));
}

void check_floating(const char* op, const Tensor& x) {
  AERIE_CHECK(x.defined() && at::isFloatingType(x.scalar_type()),
              "{}: the input must be a bf16 or f32 tensor", op);
}

void check_attention(const char* op, const AttentionInputs& in) {
  check_floating(op, in.q);
  const at::ScalarType type = in.q.scalar_type();
  check(op, "q", in.q, {-1, -1, -1}, type);
  const int64_t rows = in.q.size(0), heads = in.q.size(1), d = in.q.size(2);
  check(op, "k", in.k, {-1, -1, d}, type);
  const int64_t kv_heads = in.k.size(1);
  check(op, "v", in.v, {in.k.size(0), kv_heads, d}, type);
  check(op, "rows", in.rows, {rows}, at::kLong);
  check(op, "q_start", in.q_start, {-1}, at::kInt);
  AERIE_CHECK(kv_heads > 0 && heads % kv_heads == 0, "{}: {} query heads over {} KV heads", op,
              heads, kv_heads);
  AERIE_CHECK(in.k_steps.size() == in.v_steps.size(), "{}: {} k_steps and {} v_steps", op,
              in.k_steps.size(), in.v_steps.size());
  for (size_t s = 0; s < in.k_steps.size(); ++s) {
    check(op, "k_steps", in.k_steps[s], {rows, kv_heads, d}, type);
    check(op, "v_steps", in.v_steps[s], {rows, kv_heads, d}, type);
  }
}

/// CUDA has kernels for bf16 and f32; f64, which is for checks, is composed there too.
bool has_cuda_kernel(const Tensor& x) { return x.is_cuda() && x.scalar_type() != at::kDouble; }

/// `window` where it hides anything, else 0.
int64_t narrowing(const char* op, int64_t window, const Tensor& q_start) {
  AERIE_CHECK(window >= 0, "{}: a window of {} keys", op, window);
  if (window == 0 || q_start.numel() < 2) return 0;
  return q_start.diff().max().item<int64_t>() > window ? window : 0;
}

AttentionOutput forward_kernel(const AttentionInputs& in) {
  if (has_cuda_kernel(in.q)) return cuda_ops().ttt_forward(in);
  return cpu::ttt_supported(in) ? cpu::ttt_forward(in) : composed::ttt_forward(in);
}

AttentionGrads backward_kernel(const AttentionInputs& in, const AttentionOutput& out,
                               const Tensor& d_out) {
  if (has_cuda_kernel(in.q)) return cuda_ops().ttt_backward(in, out, d_out);
  return cpu::ttt_supported(in) ? cpu::ttt_backward(in, out, d_out)
                                : composed::ttt_backward(in, out, d_out);
}

/// Inputs in the order of `forward`: q, k, v, rows, q_start, scale, window, then k_steps, v_steps.
struct TttAttention : torch::autograd::Function<TttAttention> {
  static Variable forward(AutogradContext* context, const Variable& q, const Variable& k,
                          const Variable& v, const Tensor& rows, const Tensor& q_start,
                          double scale, int64_t window, at::TensorList k_steps,
                          at::TensorList v_steps) {
    const AttentionInputs in{q, rows, k, v, q_start, k_steps.vec(), v_steps.vec(), scale, window};
    const AttentionOutput out = forward_kernel(in);
    variable_list saved = {q, k, v, rows, q_start, out.out, out.lse};
    saved.insert(saved.end(), k_steps.begin(), k_steps.end());
    saved.insert(saved.end(), v_steps.begin(), v_steps.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["scale"] = scale;
    context->saved_data["window"] = window;
    return out.out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    const variable_list saved = context->get_saved_variables();
    const auto steps = saved.begin() + 7;
    const auto middle = steps + (saved.end() - steps) / 2;
    const AttentionInputs in{saved[0],
                             saved[3],
                             saved[1],
                             saved[2],
                             saved[4],
                             {steps, middle},
                             {middle, saved.end()},
                             context->saved_data["scale"].toDouble(),
                             context->saved_data["window"].toInt()};
    const AttentionGrads grads = backward_kernel(in, {saved[5], saved[6]}, grad[0].contiguous());
    variable_list result = {grads.q, grads.k, grads.v, Tensor(), Tensor(), Tensor(), Tensor()};
    result.insert(result.end(), grads.k_steps.begin(), grads.k_steps.end());
    result.insert(result.end(), grads.v_steps.begin(), grads.v_steps.end());
    return result;
  }
};

bool any_wants_grad(const std::vector<Tensor>& list) {
  return std::any_of(list.begin(), list.end(), [](const Tensor& x) { return wants_grad(x); });
}

/// The gradients were computed with the values; the backward only scales them. The head's goes
/// straight into its master's grad(), as that of every linear.
struct HeadLossTotal : torch::autograd::Function<HeadLossTotal> {
  static Variable forward(AutogradContext* context, const Variable& hidden, const Variable& master,
                          const Tensor& total, const HeadLossGrads& grads) {
    (void)hidden;
    context->save_for_backward({master});
    context->saved_data["hidden"] = grads.hidden;
    context->saved_data["head"] = grads.head;
    return total.clone();
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    const Tensor hidden = context->saved_data["hidden"].toTensor(),
                 head = context->saved_data["head"].toTensor();
    if (head.defined()) {
      Tensor master = context->get_saved_variables()[0];
      autograd::gradient_of(master).addcmul_(head, grad[0].to(head.scalar_type()));
    }
    return {hidden.defined() ? hidden * grad[0].to(hidden.scalar_type()) : Tensor(), Tensor(),
            Tensor(), Tensor()};
  }
};

void check_head_loss(const HeadLossInputs& in) {
  const char* op = "head_loss";
  check_floating(op, in.hidden);
  const Teacher& teacher = *in.teacher;
  AERIE_CHECK(teacher.head != nullptr, "{}: the teacher has no head", op);
  const int64_t rows = in.hidden.size(0), vocab = teacher.head->out_features,
                draft_vocab = in.head->out_features;
  check(op, "hidden", in.hidden, {-1, in.head->in_features}, in.hidden.scalar_type());
  check(op, "teacher.hidden", teacher.hidden, {-1, teacher.head->in_features},
        teacher.hidden.scalar_type());
  check(op, "teacher.draft_of", teacher.draft_of, {vocab}, at::kLong);
  check(op, "teacher.target_of", teacher.target_of, {draft_vocab}, at::kLong);
  check(op, "teacher_row", in.teacher_row, {rows}, at::kLong);
  AERIE_CHECK(at::isFloatingType(in.row_weight.scalar_type()) && in.row_weight.dim() == 1 &&
                  in.row_weight.size(0) == rows,
              "{}: row_weight must be f32 [{}]", op, rows);
}

}  // namespace

Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_start,
                        double scale, int64_t window) {
  const Tensor rows = at::arange(q.size(0), q_start.options().dtype(at::kLong));
  const char* op = "packed_attention";
  const AttentionInputs in{q, rows, k, v, q_start, {}, {}, scale, narrowing(op, window, q_start)};
  check_attention(op, in);
  return forward_kernel(in).out;
}

Tensor ttt_attention(const Tensor& q, const Tensor& rows, const Tensor& k, const Tensor& v,
                     const Tensor& q_start, const std::vector<Tensor>& k_steps,
                     const std::vector<Tensor>& v_steps, double scale, int64_t window) {
  const char* op = "ttt_attention";
  const AttentionInputs in{
      q, rows, k, v, q_start, k_steps, v_steps, scale, narrowing(op, window, q_start)};
  check_attention(op, in);
  if (wants_grad(q, k, v) || any_wants_grad(k_steps) || any_wants_grad(v_steps)) {
    return TttAttention::apply(q, k, v, rows, q_start, scale, in.window, at::TensorList(k_steps),
                               at::TensorList(v_steps));
  }
  return forward_kernel(in).out;
}

HeadLoss head_loss(const Tensor& hidden, const LinearWeight& head, const Teacher& teacher,
                   const Tensor& teacher_row, const Tensor& row_weight, const LossMix& mix) {
  HeadLossInputs in{hidden.detach(), &head, &teacher, teacher_row, row_weight};
  in.mix = mix;
  check_head_loss(in);
  in.hidden_grad = wants_grad(hidden);
  in.head_grad = at::GradMode::is_enabled() && head.trainable();
  HeadLossOutput out;
  {
    at::NoGradGuard no_grad;
    // CUDA's kernel knows the default alone; the composed form runs there too.
    const bool on_cuda = has_cuda_kernel(in.hidden) && mix.only_kl();
    out = on_cuda                        ? cuda_ops().head_loss(in)
          : cpu::head_loss_supported(in) ? cpu::head_loss(in)
                                         : composed::head_loss(in);
  }
  if (in.hidden_grad || in.head_grad) {
    out.values.total = HeadLossTotal::apply(hidden, head.weight, out.values.total, out.grads);
  }
  return std::move(out.values);
}

}  // namespace aerie::ops
