// The objective that teaches a target to fill masks (WeDLM, arXiv 2512.22737, section 4).
#pragma once
#include "target_models/trainable.h"
#include "trainer/dual_stream.h"

namespace aerie {

/// Sums of one or several batches.
struct DualStreamLoss {
  Tensor total;                            ///< [] f32 the objective of a batch, differentiable
  double weighted = 0;                     ///< the same as a number
  double masked = 0, next = 0;             ///< sums of cross-entropies, unweighted
  int64_t masked_hits = 0, next_hits = 0;  ///< labels that were the likeliest token
  int64_t masks = 0, nexts = 0, rows = 0, batches = 0;

  void add(const DualStreamLoss& other);
  double loss() const;  ///< mean over the batches
};

/// Attention of the plan's rows: clean ones causally in their document, noisy ones to the clean
/// text before their block and to their own copy. q [N+M,H,D], k, v [N+M,G,D] -> [N+M,H,D].
Tensor attend_dual_stream(const DualStream& plan, const Tensor& q, const Tensor& k, const Tensor& v,
                          double scale);

DualStreamLoss dual_stream_loss(const TrainableTarget& target, const DualStream& plan);

}  // namespace aerie
