#include "trainer/label_loss.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/log_softmax.h>
#include <torch/csrc/autograd/custom_function.h>

#include "common/threads.h"

namespace aerie {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t kRows = 32;  // of a piece

/// The gradient came with the values; the backward only scales it.
struct LabelTotal : torch::autograd::Function<LabelTotal> {
  static Variable forward(AutogradContext* context, const Variable& /*hidden*/, const Tensor& total,
                          const Tensor& gradient) {
    context->saved_data["gradient"] = gradient;
    return total.clone();
  }
  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    const Tensor gradient = context->saved_data["gradient"].toTensor();
    return {gradient * grad[0].to(gradient.scalar_type()), Tensor(), Tensor()};
  }
};

/// Rows [begin, begin + count) of everything.
struct Piece {
  const ops::LinearWeight& head;
  Tensor hidden, labels, weights;  // without gradient
  Tensor loss, hit, gradient;      // to fill; gradient undefined: not wanted

  void run() const {
    const at::AutoGradMode record(gradient.defined());
    Tensor x = hidden.detach();
    x.requires_grad_(gradient.defined());
    const Tensor logits = ops::linear(x, head).to(at::kFloat);
    const Tensor log_p = at::log_softmax(logits, 1);
    const Tensor own = -log_p.gather(1, labels.unsqueeze(1)).squeeze(1);
    const Tensor total = (own * weights).sum();
    if (gradient.defined()) total.backward();
    const at::NoGradGuard no_grad;
    loss.copy_(own);
    hit.copy_(log_p.argmax(1) == labels);
    if (gradient.defined()) gradient.copy_(x.grad());
  }
};

}  // namespace

LabelLoss label_loss(const Tensor& hidden, const ops::LinearWeight& head, const Tensor& labels,
                     const Tensor& weights) {
  const bool wants = at::GradMode::is_enabled() && hidden.requires_grad();
  const Tensor rows = hidden.detach();
  LabelLoss out;
  out.loss = at::empty({rows.size(0)}, at::kFloat);
  out.hit = at::empty({rows.size(0)}, at::kBool);
  const Tensor gradient = wants ? at::empty_like(rows) : Tensor();
  parallel_for(0, rows.size(0), kRows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row += kRows) {
      const auto part = [&](const Tensor& all) {
        return all.defined() ? all.narrow(0, row, std::min(kRows, end - row)) : all;
      };
      Piece{head,           part(rows),    part(labels),  part(weights),
            part(out.loss), part(out.hit), part(gradient)}
          .run();
    }
  });
  out.total = (out.loss * weights).sum();
  if (wants) out.total = LabelTotal::apply(hidden, out.total, gradient);
  return out;
}

}  // namespace aerie
