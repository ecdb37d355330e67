#include "trainer/evaluation.h"

#include <ATen/core/grad_mode.h>

namespace aerie {

double Evaluation::value() const {
  return acceptance ? acceptance->length : metrics.simulated_acceptance();
}

UnrollMetrics evaluate_loss(const Eagle3Draft& draft, HiddenStateSource& heldout,
                            const TeacherHead& teacher, std::span<const double> step_weights) {
  const at::NoGradGuard no_grad;
  UnrollMetrics metrics(static_cast<int64_t>(step_weights.size()));
  const std::string start = heldout.cursor();
  while (const std::optional<TrainBatch> batch = heldout.next()) {
    const UnrollPlan plan = plan_unroll(batch->tokens, batch->positions, batch->loss_mask,
                                        batch->q_start, static_cast<int64_t>(step_weights.size()));
    metrics.add_tokens(batch->tokens.numel(), batch->loss_mask.sum().item<int64_t>());
    if (plan.pairs > 0) {
      metrics.add(plan, ttt_loss(draft, *batch, plan, teacher, step_weights));
    }
  }
  heldout.seek(start);
  return metrics;
}

}  // namespace aerie
