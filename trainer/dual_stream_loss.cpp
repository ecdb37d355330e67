#include "trainer/dual_stream_loss.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include <cmath>

#include "trainer/keep_rows.h"
#include "trainer/label_loss.h"

namespace aerie {

void DualStreamLoss::add(const DualStreamLoss& other) {
  weighted += other.weighted;
  masked += other.masked;
  next += other.next;
  masked_hits += other.masked_hits;
  next_hits += other.next_hits;
  masks += other.masks;
  nexts += other.nexts;
  rows += other.rows;
  batches += other.batches;
}

double DualStreamLoss::loss() const {
  return batches > 0 ? weighted / static_cast<double>(batches) : 0;
}

// A column's rows are the steps of a training-time test: each sees a run of base rows and, one by
// one, what its own copy has before it.
Tensor attend_dual_stream(const DualStream& plan, const Tensor& q, const Tensor& k, const Tensor& v,
                          double scale) {
  const int64_t clean = plan.clean;
  const Tensor base_k = k.narrow(0, 0, clean), base_v = v.narrow(0, 0, clean);
  std::vector<Tensor> out{ops::ttt_attention(q.narrow(0, 0, clean), at::arange(clean, at::kLong),
                                             base_k, base_v, plan.q_start, {}, {}, scale)};
  for (const DualStream::Column& column : plan.columns) {
    std::vector<Tensor> keys, values;
    for (size_t s = 0; s < column.earlier.size(); ++s) {
      const DualStream::Column& earlier = plan.columns[s];
      const auto rows_of = [&](const Tensor& all) {
        const Tensor rows = all.narrow(0, clean + earlier.begin, earlier.rows());
        return column.earlier[s].defined() ? keep_rows(rows, column.earlier[s]) : rows;
      };
      keys.push_back(rows_of(k));
      values.push_back(rows_of(v));
    }
    out.push_back(ops::ttt_attention(q.narrow(0, clean + column.begin, column.rows()), column.base,
                                     base_k, base_v, plan.q_start, keys, values, scale));
  }
  return at::cat(out);
}

DualStreamLoss dual_stream_loss(const TrainableTarget& target, const DualStream& plan) {
  const double scale = 1 / std::sqrt(static_cast<double>(target.config().head_dim));
  const Tensor hidden = target.hidden(plan.tokens, plan.positions, plan.masked,
                                      [&](const Tensor& q, const Tensor& k, const Tensor& v) {
                                        return attend_dual_stream(plan, q, k, v, scale);
                                      });
  const LabelLoss labels =
      label_loss(keep_rows(hidden, plan.loss_rows), target.head(), plan.labels, plan.weights);
  const auto sum = [&](const Tensor& all, bool masks) {
    const int64_t begin = masks ? 0 : plan.masks, count = masks ? plan.masks : plan.next;
    return all.narrow(0, begin, count).to(at::kDouble).sum().item<double>();
  };
  DualStreamLoss result;
  result.total = labels.total;
  result.weighted = labels.total.detach().item<double>();
  result.masked = sum(labels.loss, true);
  result.next = sum(labels.loss, false);
  result.masked_hits = static_cast<int64_t>(sum(labels.hit, true));
  result.next_hits = static_cast<int64_t>(sum(labels.hit, false));
  result.masks = plan.masks;
  result.nexts = plan.next;
  result.rows = plan.tokens.numel();
  result.batches = 1;
  return result;
}

}  // namespace aerie
