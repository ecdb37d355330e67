// Which (row, depth) pairs train, and what each needs: the whole index arithmetic of the
// training-time test, as plain integers. No model, no floating point.
#pragma once
#include <torch/types.h>

#include <vector>

namespace aerie {

using at::Tensor;

/// The unroll of one packed batch, only over the rows that it takes: the row-sparse
/// unroll under the correct mask.
///
/// Row t trains at depth k iff the tokens t+1 .. t+k+2 all exist in its document and are all the
/// assistant's: the draft has read x_{t+1+k} and predicts x_{t+2+k}. So the depths are nested, and
/// the last row of a prompt is the first one that trains.
struct UnrollPlan {
  struct Depth {
    Tensor rows;       ///< [R] i64 ascending: the training rows, as indices into the base rows
    Tensor survivors;  ///< [R] i64: the same rows as indices into the previous depth's; undefined
                       ///< at depth 0, and where every row of the previous depth survives
    Tensor tokens;     ///< [R] i64 x_{t+1+k}; at depth 0 [B], of every base row
    Tensor
        positions;  ///< [R] i64 position of t, plus k; at depth 0 [B]; [3,R], [3,B] as the batch's
    int64_t count = 0;  ///< R
    int64_t valid = 0;  ///< the rows that could train; more than R where depths are sampled
    double scale = 1;   ///< what a kept row stands for: 1 / keep^k
  };
  Tensor base_rows;  ///< [B] i64: the batch rows that give keys and values, ascending. A document's
                     ///< rows behind its last training row are left out: nobody attends to them
  Tensor q_start;    ///< [S'+1] i32: documents among the base rows, empty ones left out
  std::vector<Depth> depths;  ///< ends early where no row is left
  Tensor teacher_rows;      ///< [T] i64: batch rows whose next-token distribution labels anything,
                            ///< ascending
  Tensor teacher_row;       ///< [M] i64: index into teacher_rows of every pair, depth after depth
  int64_t pairs = 0;        ///< M
  int64_t valid_pairs = 0;  ///< what the loss is normalised by: M where every depth is kept
};

/// Each row goes on to the next depth with probability `keep`, so that depth k costs keep^k; its
/// loss counts 1 / keep^k, so that the gradient's expectation stays the same.
struct DepthSampling {
  double keep = 1;
  std::vector<uint64_t> keys = {};  ///< [S] of the draws of each document; none needed at keep 1
};

/// tokens [N], positions [N] or [3,N] i64, loss_mask [N] bool, q_start [S+1] i32, all on the CPU;
/// `unroll` = K.
UnrollPlan plan_unroll(const Tensor& tokens, const Tensor& positions, const Tensor& loss_mask,
                       const Tensor& q_start, int64_t unroll, const DepthSampling& sampling = {});

}  // namespace aerie
