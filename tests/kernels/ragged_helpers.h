// Sequences in a paged cache, and attention by its formula.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ops.h"

namespace aerie::ops {

constexpr int64_t kPage = KvPool::kPageSize;

/// A sequence's true keys and values, kept plainly beside the pool.
struct History {
  std::vector<int64_t> pages;
  Tensor k, v;  // [T,G,D]
};

struct Shape {
  int64_t heads, kv_heads, head_dim;
};

/// Scalar softmax attention of one query row [H,D] over chosen tokens of k, v [T,G,D].
inline Tensor attend_row(const Tensor& q, const Tensor& k, const Tensor& v,
                         const std::vector<int64_t>& tokens, double scale) {
  const int64_t heads = q.size(0), group = heads / k.size(1);
  const Tensor chosen = at::tensor(tokens, at::kLong);
  std::vector<Tensor> rows;
  for (int64_t h = 0; h < heads; ++h) {
    const Tensor keys = k.select(1, h / group).index_select(0, chosen).to(at::kDouble);
    const Tensor values = v.select(1, h / group).index_select(0, chosen).to(at::kDouble);
    const Tensor scores = keys.mv(q[h].to(at::kDouble)) * scale;
    const Tensor weights = (scores - scores.max()).exp();
    rows.push_back(values.t().mv(weights) / weights.sum());
  }
  return at::stack(rows).to(at::kFloat);
}

inline RaggedLayout make_layout(const std::vector<int64_t>& rows,
                                const std::vector<int64_t>& lengths,
                                const std::vector<History*>& sequences) {
  RaggedLayout layout;
  std::vector<int32_t> starts{0}, kv_len;
  std::vector<int64_t> slots;
  size_t most = 0;
  for (const History* sequence : sequences) most = std::max(most, sequence->pages.size());
  std::vector<int32_t> pages;
  for (size_t s = 0; s < rows.size(); ++s) {
    starts.push_back(starts.back() + rows[s]);
    kv_len.push_back(lengths[s]);
    for (int64_t t = lengths[s] - rows[s]; t < lengths[s]; ++t) {
      slots.push_back(sequences[s]->pages[t / kPage] * kPage + t % kPage);
    }
    for (size_t p = 0; p < most; ++p) {
      pages.push_back(p < sequences[s]->pages.size() ? sequences[s]->pages[p] : 0);
    }
    layout.max_q = std::max(layout.max_q, rows[s]);
    layout.max_kv = std::max(layout.max_kv, lengths[s]);
  }
  layout.q_start = at::tensor(starts, at::kInt);
  layout.kv_len = at::tensor(kv_len, at::kInt);
  layout.pages = at::tensor(pages, at::kInt).view({static_cast<int64_t>(rows.size()), -1});
  layout.slots = at::tensor(slots, at::kLong);
  return layout;
}

}  // namespace aerie::ops
