// Packed and training-time-test attention out of ATen ops: documents in blocks of query rows, so
// that no [T,T] matrix exists at any length. The backward recomputes a block's probabilities from
// the saved log-sum-exp.
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>

#include "kernels/composed.h"
#include "kernels/training.h"

namespace aerie::ops::composed {
namespace {

constexpr int64_t kBlockRows = 256;

/// Query rows [begin, end) of one document and the base keys [first, last) that any of them sees.
struct Block {
  int64_t begin, end, first, last;
};

std::vector<Block> make_blocks(const AttentionInputs& in) {
  const Tensor host_rows = in.rows.cpu().contiguous(), host_start = in.q_start.cpu().contiguous();
  const int64_t* row = host_rows.const_data_ptr<int64_t>();
  const int64_t count = host_rows.numel();
  std::vector<Block> blocks;
  for (int64_t s = 0, at = 0; s + 1 < host_start.numel(); ++s) {
    const int64_t first = host_start.const_data_ptr<int32_t>()[s];
    const int64_t stop = host_start.const_data_ptr<int32_t>()[s + 1];
    const int64_t document_end = std::lower_bound(row + at, row + count, stop) - row;
    for (; at < document_end; at = blocks.back().end) {
      const int64_t end = std::min(at + kBlockRows, document_end);
      const int64_t oldest = in.window > 0 ? row[at] + 1 - in.window : first;
      blocks.push_back({at, end, std::max(first, oldest), row[end - 1] + 1});
    }
  }
  return blocks;
}

/// [n,heads,D] -> [G, heads/G * n, D] in the wide type: one matrix a KV head
Tensor by_kv_head(const Tensor& x, int64_t kv_heads) {
  const int64_t n = x.size(0), d = x.size(2);
  return x.to(wide_type(x))
      .view({n, kv_heads, -1, d})
      .permute({1, 2, 0, 3})
      .reshape({kv_heads, -1, d});
}

/// the way back: [G, heads/G * n, D] -> [n,heads,D]
Tensor by_row(const Tensor& x, int64_t n) {
  const int64_t kv_heads = x.size(0), d = x.size(2);
  return x.view({kv_heads, -1, n, d}).permute({2, 0, 1, 3}).reshape({n, -1, d});
}

/// [n,G,D] of a step -> [G, heads/G * n, D]: each query's own key or value
Tensor own(const Tensor& step, int64_t heads) {
  const int64_t kv_heads = step.size(1);
  return by_kv_head(step.repeat_interleave(heads / kv_heads, 1), kv_heads);
}

/// [G, heads/G * n, D] -> [n,G,D], summed over the query heads that share a KV head
Tensor sum_own(const Tensor& grad, int64_t n) {
  const int64_t kv_heads = grad.size(0), d = grad.size(2);
  return grad.view({kv_heads, -1, n, d}).sum(1).transpose(0, 1);
}

/// Everything a block's forward and backward share.
struct BlockScores {
  Tensor q, k, v;  ///< [G,h*n,D], [G,L,D]
  std::vector<Tensor> own_k, own_v;
  Tensor scores;  ///< [G,h*n,L+K], scaled and masked
};

BlockScores block_scores(const AttentionInputs& in, const Block& block) {
  const int64_t heads = in.q.size(1), kv_heads = in.k.size(1), n = block.end - block.begin;
  BlockScores result;
  result.q = by_kv_head(in.q.slice(0, block.begin, block.end), kv_heads);
  result.k = by_kv_head(in.k.slice(0, block.first, block.last), kv_heads);
  result.v = by_kv_head(in.v.slice(0, block.first, block.last), kv_heads);
  const Tensor keys = at::arange(block.first, block.last, in.rows.options());
  const Tensor rows = in.rows.slice(0, block.begin, block.end).unsqueeze(1);
  Tensor hidden = keys.unsqueeze(0).gt(rows);
  if (in.window > 0) hidden = hidden.logical_or(keys.unsqueeze(0).le(rows - in.window));
  const Tensor masked = hidden.repeat({heads / kv_heads, 1});
  std::vector<Tensor> parts = {result.q.matmul(result.k.transpose(1, 2))
                                   .masked_fill_(masked, -std::numeric_limits<double>::infinity())};
  for (size_t s = 0; s < in.k_steps.size(); ++s) {
    result.own_k.push_back(own(in.k_steps[s].slice(0, block.begin, block.end), heads));
    result.own_v.push_back(own(in.v_steps[s].slice(0, block.begin, block.end), heads));
    parts.push_back((result.q * result.own_k.back()).sum(-1, true));
  }
  result.scores = at::cat(parts, -1).mul_(in.scale);
  TORCH_INTERNAL_ASSERT(result.q.size(1) == heads / kv_heads * n);
  return result;
}

}  // namespace

AttentionOutput ttt_forward(const AttentionInputs& in) {
  const int64_t heads = in.q.size(1), kv_heads = in.k.size(1);
  AttentionOutput result{at::empty_like(in.q, at::MemoryFormat::Contiguous),
                         at::empty({in.q.size(0), heads}, in.q.options().dtype(wide_type(in.q)))};
  for (const Block& block : make_blocks(in)) {
    const int64_t n = block.end - block.begin;
    const BlockScores b = block_scores(in, block);
    const int64_t keys = b.k.size(1);
    const Tensor lse = at::logsumexp(b.scores, {-1}, true);  // [G,h*n,1]
    const Tensor p = (b.scores - lse).exp_();
    Tensor out = p.slice(2, 0, keys).matmul(b.v);
    for (size_t s = 0; s < b.own_v.size(); ++s) {
      const int64_t column = keys + static_cast<int64_t>(s);
      out.addcmul_(p.slice(2, column, column + 1), b.own_v[s]);
    }
    result.out.slice(0, block.begin, block.end).copy_(by_row(out, n));
    result.lse.slice(0, block.begin, block.end).copy_(by_row(lse, n).view({n, heads}));
  }
  TORCH_INTERNAL_ASSERT(heads % kv_heads == 0);
  return result;
}

AttentionGrads ttt_backward(const AttentionInputs& in, const AttentionOutput& out,
                            const Tensor& d_out) {
  const int64_t kv_heads = in.k.size(1);
  const auto wide = in.q.options().dtype(wide_type(in.q));
  AttentionGrads grads{at::empty_like(in.q, at::MemoryFormat::Contiguous),
                       at::zeros(in.k.sizes(), wide),
                       at::zeros(in.v.sizes(), wide),
                       {},
                       {}};
  for (size_t s = 0; s < in.k_steps.size(); ++s) {
    grads.k_steps.push_back(at::empty_like(in.k_steps[s], at::MemoryFormat::Contiguous));
    grads.v_steps.push_back(at::empty_like(in.v_steps[s], at::MemoryFormat::Contiguous));
  }
  for (const Block& block : make_blocks(in)) {
    const int64_t n = block.end - block.begin;
    const BlockScores b = block_scores(in, block);
    const int64_t keys = b.k.size(1);
    const Tensor d = by_kv_head(d_out.slice(0, block.begin, block.end), kv_heads);
    const Tensor o = by_kv_head(out.out.slice(0, block.begin, block.end), kv_heads);
    const Tensor lse = by_kv_head(out.lse.slice(0, block.begin, block.end).unsqueeze(-1), kv_heads);
    const Tensor p = (b.scores - lse).exp_();    // [G,h*n,L+K]
    const Tensor delta = (d * o).sum(-1, true);  // the softmax's own term
    const Tensor p0 = p.slice(2, 0, keys);
    const Tensor ds = p0 * (d.matmul(b.v.transpose(1, 2)) - delta) * in.scale;
    Tensor dq = ds.matmul(b.k);
    grads.k.slice(0, block.first, block.last).add_(ds.transpose(1, 2).matmul(b.q).transpose(0, 1));
    grads.v.slice(0, block.first, block.last).add_(p0.transpose(1, 2).matmul(d).transpose(0, 1));
    for (size_t s = 0; s < b.own_k.size(); ++s) {
      const int64_t column = keys + static_cast<int64_t>(s);
      const Tensor ps = p.slice(2, column, column + 1);
      const Tensor dss = ps * ((d * b.own_v[s]).sum(-1, true) - delta) * in.scale;
      dq.addcmul_(dss, b.own_k[s]);
      grads.k_steps[s].slice(0, block.begin, block.end).copy_(sum_own(dss * b.q, n));
      grads.v_steps[s].slice(0, block.begin, block.end).copy_(sum_own(ps * d, n));
    }
    grads.q.slice(0, block.begin, block.end).copy_(by_row(dq, n));
  }
  grads.k = grads.k.to(in.k.scalar_type());
  grads.v = grads.v.to(in.v.scalar_type());
  return grads;
}

}  // namespace aerie::ops::composed
