// AdamW on f32 masters that lie side by side in one buffer: the norm, the update and the checkpoint
// are each one pass over it, and gradients land in pages that are never given back.
#pragma once
#include <string>

#include "configs/run_config.h"
#include "draft_models/draft.h"

namespace aerie {

class Optimizer {
 public:
  /// Moves `params` into one buffer: each becomes an f32 leaf that requires a gradient, and its
  /// gradient a view of another buffer, zero at first. `params` must outlive the optimizer.
  Optimizer(DraftParams& params, const OptimSection& options);

  struct Report {
    double grad_norm = 0;  ///< global, after scaling and before clipping
    bool applied = false;  ///< false: the norm is not finite, and nothing was changed
  };
  /// Gradients times `grad_scale`, clipped to the global norm optim.clip, then AdamW (Loshchilov &
  /// Hutter, arXiv 1711.05101) at rate `lr`. Clears the gradients either way. The result does not
  /// depend on the number of threads.
  Report step(double lr, double grad_scale);

  /// Updates that were applied: the moments' age.
  int64_t updates() const { return updates_; }
  /// Moments by parameter name, for a checkpoint: views, not copies.
  DraftParams first_moments() const { return named(first_); }
  DraftParams second_moments() const { return named(second_); }
  /// Whether optim.ema asks for an exponential average of the masters; average() is it, by name:
  /// views, not copies. It moves faster in the first updates, so that it soon forgets the start.
  bool averages() const { return average_.defined(); }
  DraftParams average() const { return named(average_); }
  /// Copies masters and moments back from a checkpoint, and the average where there is one.
  void restore(const DraftParams& masters, const DraftParams& first, const DraftParams& second,
               const DraftParams& average, int64_t updates);
  int64_t bytes() const { return (averages() ? 5 : 4) * master_.numel() * 4; }

 private:
  DraftParams named(const Tensor& flat) const;
  double gradient_norm() const;

  DraftParams& params_;
  OptimSection options_;
  Tensor master_, grad_, first_, second_;  // each [P] f32
  Tensor average_;                         // the same, or undefined
  int64_t updates_ = 0;
};

}  // namespace aerie
