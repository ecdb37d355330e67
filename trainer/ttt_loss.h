// The training-time test: the draft runs on its own states for K steps, and every step is distilled
// from the target (EAGLE-3, arXiv 2503.01840).
#pragma once
#include <vector>

#include "configs/run_config.h"
#include "draft_models/draft.h"
#include "trainer/hidden_states.h"
#include "trainer/unroll_plan.h"

namespace aerie {

/// The frozen head that turns last hidden states into labels, and which of them a draft can say.
struct TeacherHead {
  const ops::LinearWeight* head = nullptr;  ///< [V,C]
  const VocabMap* vocab = nullptr;
};

/// What is minimised.
struct Objective {
  std::vector<double> step_weights;  ///< of every depth
  ops::LossMix mix = {};             ///< how draft and teacher are compared
  bool recompute = false;  ///< a depth's activations are computed again in the backward: less
                           ///< memory, the same sums in another order
};
/// From train.loss, train.step_weights or train.step_decay, train.recompute. Throws Error.
Objective objective_of(const TrainSection& train);

/// loss = sum over depths k and rows of step_weights[k] * mix(teacher, draft), not normalised:
/// dividing by the number of pairs is the optimizer's, because a step may have several batches.
/// The pairs of the result stand depth after depth, as plan.teacher_row. `plan` must have pairs.
/// The backward needs `draft` as it is now.
ops::HeadLoss ttt_loss(const Eagle3Draft& draft, const TrainBatch& batch, const UnrollPlan& plan,
                       const TeacherHead& teacher, const Objective& objective);

/// Throws Error for a window (DraftConfig::window) that the unroll's own rows would fill.
void check_window(const DraftConfig& draft, int64_t unroll);

/// decay^0, decay^1, ... decay^(unroll-1)
std::vector<double> step_weights(double decay, int64_t unroll);

}  // namespace aerie
