// The fused head and its loss out of ATen ops, in chunks of teacher rows.
#include <ATen/ops/argmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "common/error.h"
#include "kernels/composed.h"
#include "kernels/training.h"

namespace aerie::ops::composed {
namespace {

constexpr int64_t kChunk = 32;  // teacher rows whose logits exist at once

/// The weight as the computation sees it: rounded to the activations' type, then widened.
Tensor wide_weight(const LinearWeight& weight, const Tensor& x) {
  return dense(weight).to(x.scalar_type()).to(wide_type(x));
}

Tensor upload(const std::vector<int64_t>& values, size_t begin, size_t end, const Tensor& like) {
  const auto count = static_cast<int64_t>(end - begin);
  return at::from_blob(const_cast<int64_t*>(values.data() + begin), {count}, at::kLong)
      .to(like.device(), at::kLong, false, true);
}

struct TeacherChunk {
  Tensor log_p;     ///< [n,W] log-softmax over the draft vocabulary
  Tensor p_full;    ///< [n,W] probability under the full vocabulary
  Tensor draft_id;  ///< [n] the argmax as draft id, or -1
};

TeacherChunk label(const Teacher& teacher, const Tensor& rows, const Tensor& head) {
  const Tensor full = teacher.hidden.index_select(0, rows).to(head.scalar_type()).matmul(head.t());
  const Tensor pruned = full.index_select(1, teacher.target_of);
  return {at::log_softmax(pruned, -1), (pruned - at::logsumexp(full, {-1}, true)).exp_(),
          teacher.draft_of.index_select(0, full.argmax(-1))};
}

}  // namespace

HeadLossOutput head_loss(const HeadLossInputs& in) {
  const auto wide = in.hidden.options().dtype(wide_type(in.hidden));
  const auto flag = in.hidden.options().dtype(at::kBool);
  const int64_t count = in.hidden.size(0);
  HeadLossOutput out;
  HeadLoss& values = out.values;
  values = {at::zeros({count}, wide),
            at::zeros({count}, flag),
            at::zeros({count}, flag),
            at::zeros({count}, wide),
            {}};
  const Tensor head = wide_weight(*in.head, in.hidden);
  const Tensor teacher_head = wide_weight(*in.teacher->head, in.teacher->hidden).to(wide);
  if (in.hidden_grad) out.grads.hidden = at::zeros_like(in.hidden, at::MemoryFormat::Contiguous);
  if (in.head_grad) out.grads.head = at::zeros(head.sizes(), wide);

  const TeacherGroups groups = group_by_teacher(in.teacher_row);
  for (size_t u = 0; u < groups.teacher.size(); u += kChunk) {
    const size_t stop = std::min(u + static_cast<size_t>(kChunk), groups.teacher.size());
    const Tensor teacher_rows = upload(groups.teacher, u, stop, in.hidden);
    const TeacherChunk chunk = label(*in.teacher, teacher_rows, teacher_head);
    const auto begin = static_cast<size_t>(groups.start[u]),
               end = static_cast<size_t>(groups.start[stop]);
    const Tensor rows = upload(groups.order, begin, end, in.hidden);
    const Tensor local =
        at::searchsorted(teacher_rows, in.teacher_row.index_select(0, rows));  // row of the chunk

    const Tensor hidden = in.hidden.index_select(0, rows).to(wide);
    const Tensor log_q = at::log_softmax(hidden.matmul(head.t()), -1);
    const Tensor p_full = chunk.p_full.index_select(0, local);
    const Tensor draft_id = chunk.draft_id.index_select(0, local), known = draft_id.ge(0);
    const RowLosses losses =
        row_losses(in.mix, {chunk.log_p.index_select(0, local), p_full, log_q, draft_id});
    values.loss.index_copy_(0, rows, losses.value * known);
    values.hit.index_copy_(0, rows, log_q.argmax(-1).eq(draft_id));
    values.in_vocab.index_copy_(0, rows, known);
    values.alpha.index_copy_(0, rows, at::minimum(p_full, log_q.exp()).sum(-1));
    if (!in.hidden_grad && !in.head_grad) continue;
    const Tensor factor = in.row_weight.index_select(0, rows).to(wide) * known;
    const Tensor d_logits = losses.gradient * factor.unsqueeze(1);
    if (in.hidden_grad)
      out.grads.hidden.index_copy_(0, rows, d_logits.matmul(head).to(in.hidden.scalar_type()));
    if (in.head_grad) out.grads.head.addmm_(d_logits.t(), hidden);
  }
  values.total = (values.loss * in.row_weight.to(wide)).sum();
  return out;
}

}  // namespace aerie::ops::composed
