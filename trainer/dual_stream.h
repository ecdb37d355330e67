// WeDLM's training rows (arXiv 2512.22737): every document once as it is, and beside it noisy
// copies of its blocks, in which some tokens are masks. A copy sees the clean text before its
// block, and itself causally, with what is known in front of the masks; that is how a window looks
// in decoding. The clean rows are ordinary causal text and never see a copy. Indices only; no
// model.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <span>
#include <vector>

namespace aerie {

using at::Tensor;

struct DualStream {
  /// The i-th row of every copy that has so many.
  struct Column {
    int64_t begin = 0;  ///< its first row among the M noisy ones
    Tensor base;        ///< [R] i64 ascending: the last clean row that each sees
    /// For each earlier column, the rows of it [R] i64, counted from its begin, that belong to the
    /// same copies; undefined: all of them.
    std::vector<Tensor> earlier;
    int64_t rows() const { return base.numel(); }
  };
  int64_t clean = 0;  ///< N
  Tensor tokens;      ///< [N+M] i64 the batch, then the columns; 0 where a mask stands
  Tensor positions;   ///< [N+M] i64 true positions in the document
  Tensor masked;      ///< [N+M] bool
  Tensor q_start;     ///< [S+1] i32 documents among the clean rows
  std::vector<Column> columns;
  /// Rows that are to tell a token: a mask the one at its place, a clean row the next one.
  Tensor loss_rows;             ///< [R] i64, each once: the masks, then the clean rows
  Tensor labels;                ///< [R] i64
  Tensor weights;               ///< [R] f32: the loss is their sum times the cross-entropies'
  int64_t masks = 0, next = 0;  ///< rows of either kind
};

/// `ar_weight` a: loss = (masks' + a * next tokens') / (1 + a), the first a mean in which a mask
/// counts 1 / (its block's share of masks), the second a plain mean.
struct DualStreamRule {
  int64_t block = 8;
  double ar_weight = 1;
};

/// tokens, loss_mask [N], q_start [S+1] i32 as in a packed batch, on the CPU; `keys` [S]: of the
/// draws for each document. Only the assistant's tokens are masked, a share of each block that is
/// uniform in (0, 1); the first block of a document, which has nothing before it, never.
DualStream plan_dual_stream(const Tensor& tokens, const Tensor& loss_mask, const Tensor& q_start,
                            std::span<const uint64_t> keys, const DualStreamRule& rule);

}  // namespace aerie
