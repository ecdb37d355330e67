// AdamW on f32 masters that lie side by side in one buffer: the norm, the update and the checkpoint
// are each one pass over it, and gradients land in pages that are never given back.
#pragma once
#include <string>

#include "configs/run_config.h"
#include "draft_models/draft.h"
#include "kernels/collectives.h"

namespace aerie {

/// AdamW's, by parameter name.
struct Moments {
  DraftParams first, second;
};

class Optimizer {
 public:
  /// Moves `params` into one buffer: each becomes an f32 leaf that requires a gradient, and its
  /// gradient a view of another buffer, zero at first. `params` must outlive the optimizer.
  Optimizer(DraftParams& params, const OptimSection& options);
  /// The same on every rank of a run. `sharded`: stage 1 of ZeRO (Rajbhandari et al., arXiv
  /// 1910.02054): each rank keeps the moments of one stretch of the buffer, updates that, and sends
  /// it to the others. Then all but the constructor is collective. `ranks` outlives the optimizer.
  Optimizer(DraftParams& params, const OptimSection& options, Ranks& ranks, bool sharded);

  struct Report {
    double grad_norm = 0;      ///< global, after scaling and before clipping
    bool applied = false;      ///< false: the norm is not finite, and nothing was changed
    int64_t bad_in_a_row = 0;  ///< steps that were not applied, since the last that was
  };
  /// Gradients (of all ranks together) times `grad_scale`, clipped to the global norm optim.clip,
  /// then AdamW (Loshchilov & Hutter, arXiv 1711.05101) at rate `lr`. Clears the gradients either
  /// way. The result does not depend on the number of threads, nor on whether it is sharded.
  Report step(double lr, double grad_scale);

  /// [P] f32: all gradients side by side.
  const Tensor& gradient() const { return grad_; }
  /// So many steps in a row that were not applied end a run: skipping on would train nothing.
  static constexpr int64_t kMostBadSteps = 5;
  /// Updates that were applied: the moments' age.
  int64_t updates() const { return updates_; }
  /// For a checkpoint: views where all are here; sharded, rank 0 gets a copy and the others
  /// nothing.
  Moments moments() const;
  /// Whether optim.ema asks for an exponential average of the masters; average() is it, by name:
  /// views, not copies. It moves faster in the first updates, so that it soon forgets the start.
  bool averages() const { return average_.defined(); }
  DraftParams average() const { return named(average_); }
  /// What a run is for: the average where there is one, else the masters.
  DraftParams result() const { return averages() ? average() : params_; }
  /// Copies masters and moments back from a checkpoint, and the average where there is one: rank
  /// 0's arguments, on every rank.
  void restore(const DraftParams& masters, const Moments& moments, int64_t updates,
               const DraftParams& average = {});
  /// Every rank gets rank 0's masters, and the average begins with them.
  void share_masters();
  int64_t bytes() const {
    return 4 * ((averages() ? 3 : 2) * master_.numel() + 2 * first_.numel());
  }

 private:
  struct Stretch {
    int64_t begin = 0, end = 0;
    int64_t size() const { return end - begin; }
  };
  Optimizer(DraftParams& params, const OptimSection& options, Ranks* ranks, bool sharded);
  /// What a rank updates, in whole pieces.
  Stretch stretch(int rank) const;
  bool first_rank() const { return ranks_ == nullptr || ranks_->first(); }
  DraftParams named(const Tensor& flat) const;
  Tensor piece(const Tensor& flat, int64_t index) const;
  double gradient_norm();
  void update(double lr, double divide);
  void exchange_masters();
  void move_average();
  DraftParams collect(const Tensor& own) const;
  void distribute(const DraftParams& whole, Tensor& own);

  DraftParams& params_;
  OptimSection options_;
  Ranks* ranks_;  // none: alone
  bool sharded_;
  int64_t piece_ = 0, pieces_ = 0;  // elements of a piece, pieces of the buffer
  Stretch own_;
  Tensor master_, grad_;   // [P] f32
  Tensor average_;         // the same, or undefined
  Tensor first_, second_;  // [own_.size()] f32
  int64_t updates_ = 0, bad_in_a_row_ = 0;
};

}  // namespace aerie
