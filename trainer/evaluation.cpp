#include "trainer/evaluation.h"

#include <ATen/core/grad_mode.h>

namespace aerie {

double Evaluation::value() const {
  return acceptance ? acceptance->length : metrics.simulated_acceptance();
}

UnrollMetrics evaluate_loss(const Eagle3Draft& draft, HiddenStateSource& heldout,
                            const TeacherHead& teacher, const Objective& objective) {
  const at::NoGradGuard no_grad;
  const auto unroll = static_cast<int64_t>(objective.step_weights.size());
  UnrollMetrics metrics(unroll);
  const std::string start = heldout.cursor();
  while (const std::optional<TrainBatch> batch = heldout.next()) {
    const UnrollPlan plan =
        plan_unroll(batch->tokens, batch->positions, batch->loss_mask, batch->q_start, unroll);
    metrics.add_tokens(batch->tokens.numel(), batch->loss_mask.sum().item<int64_t>());
    if (plan.pairs > 0) {
      metrics.add(plan, ttt_loss(draft, *batch, plan, teacher, objective));
    }
  }
  heldout.seek(start);
  return metrics;
}

}  // namespace aerie
