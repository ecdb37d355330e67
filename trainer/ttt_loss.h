// The training-time test: the draft runs on its own states for K steps, and every step is distilled
// from the target (EAGLE-3, arXiv 2503.01840).
#pragma once
#include <span>
#include <vector>

#include "draft_models/draft.h"
#include "trainer/hidden_states.h"
#include "trainer/unroll_plan.h"

namespace aerie {

/// The frozen head that turns last hidden states into labels, and which of them a draft can say.
struct TeacherHead {
  const ops::LinearWeight* head = nullptr;  ///< [V,C]
  const VocabMap* vocab = nullptr;
};

/// loss = sum over depths k and rows of step_weights[k] * KL(teacher || draft), not normalised:
/// dividing by the number of pairs is the optimizer's, because a step may have several batches.
/// The pairs of the result stand depth after depth, as plan.teacher_row. `plan` must have pairs.
ops::HeadLoss ttt_loss(const Eagle3Draft& draft, const TrainBatch& batch, const UnrollPlan& plan,
                       const TeacherHead& teacher, std::span<const double> step_weights);

/// decay^0, decay^1, ... decay^(unroll-1)
std::vector<double> step_weights(double decay, int64_t unroll);

}  // namespace aerie
