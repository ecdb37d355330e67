// The fused head and soft cross-entropy: matrix products by cuBLAS with f32 results, everything
// about the softmax by one kernel, in chunks of teacher rows.
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/tensors.h"
#include "kernels/cuda/training_cuda.h"

namespace aerie::cuda {
namespace {

constexpr size_t kChunk = 256;  // teacher rows whose logits exist at once

/// a [N,K], b [K,M] -> [N,M] f32, whatever their type.
Tensor product(const Tensor& a, const Tensor& b) {
  if (a.scalar_type() == at::kFloat || !a.is_cuda())
    return at::mm(a.to(at::kFloat), b.to(at::kFloat));
  return at::mm(a, b, at::kFloat);
}

Tensor upload(const std::vector<int64_t>& values, size_t begin, size_t end, const Tensor& like) {
  const auto count = int64_t(end - begin);
  return at::from_blob(const_cast<int64_t*>(values.data() + begin), {count}, at::kLong)
      .clone()
      .to(like.device());
}

struct TeacherChunk {
  Tensor logits;  ///< [n,W] f32 over the draft vocabulary
  Tensor lse;     ///< [n] f32 over the full vocabulary
  Tensor label;   ///< [n] the argmax as draft id, or -1
};

TeacherChunk label(const ops::Teacher& teacher, const Tensor& rows) {
  const Tensor hidden = teacher.hidden.index_select(0, rows);
  const Tensor full = product(hidden, teacher.head->weight.detach().to(hidden.scalar_type()).t());
  Tensor argmax = at::empty({rows.numel()}, rows.options()),
         lse = at::empty({rows.numel()}, full.options());
  start("row_stats", full, cuda::row_stats,
        RowStats{.logits = full.const_data_ptr(),
                 .argmax = argmax.data_ptr<int64_t>(),
                 .lse = lse.data_ptr<float>(),
                 .rows = full.size(0),
                 .width = full.size(1),
                 .dtype = dtype_of(full)});
  return {full.index_select(1, teacher.target_of), lse, teacher.draft_of.index_select(0, argmax)};
}

/// One chunk's values, and the gradient in place of the student's logits.
struct StudentChunk {
  Tensor logits, loss, alpha, hit;
};

StudentChunk compare(const Tensor& logits, const TeacherChunk& teacher, const Tensor& teacher_row,
                     const Tensor& weight, bool write_gradient) {
  const int64_t rows = logits.size(0);
  StudentChunk out{logits, at::empty({rows}, logits.options()), at::empty({rows}, logits.options()),
                   at::empty({rows}, logits.options().dtype(at::kBool))};
  start("soft_cross_entropy", logits, cuda::soft_cross_entropy,
        SoftCrossEntropy{.student = logits.data_ptr(),
                         .teacher = teacher.logits.const_data_ptr(),
                         .teacher_row = data<int64_t>(teacher_row),
                         .label = data<int64_t>(teacher.label),
                         .teacher_lse = data<float>(teacher.lse),
                         .row_weight = data<float>(weight),
                         .loss = out.loss.data_ptr<float>(),
                         .alpha = out.alpha.data_ptr<float>(),
                         .hit = out.hit.data_ptr<bool>(),
                         .rows = rows,
                         .width = logits.size(1),
                         .write_gradient = write_gradient,
                         .dtype = dtype_of(logits),
                         .teacher_dtype = dtype_of(teacher.logits)});
  return out;
}

ops::HeadLossOutput make_output(const ops::HeadLossInputs& in) {
  const auto wide = in.hidden.options().dtype(at::kFloat),
             flag = in.hidden.options().dtype(at::kBool);
  const int64_t count = in.hidden.size(0);
  ops::HeadLossOutput out;
  out.values = {at::zeros({count}, wide),
                at::zeros({count}, flag),
                at::zeros({count}, flag),
                at::zeros({count}, wide),
                {}};
  if (in.hidden_grad) out.grads.hidden = at::zeros_like(in.hidden, at::MemoryFormat::Contiguous);
  if (in.head_grad) out.grads.head = at::zeros({in.head->out_features, in.head->in_features}, wide);
  return out;
}

}  // namespace

ops::HeadLossOutput head_loss(const ops::HeadLossInputs& in) {
  ops::HeadLossOutput out = make_output(in);
  const bool wants_gradient = in.hidden_grad || in.head_grad;
  const Tensor head = in.head->weight.detach().to(in.hidden.scalar_type());
  const Tensor row_weight = in.row_weight.to(at::kFloat).contiguous();
  const ops::TeacherGroups groups = ops::group_by_teacher(in.teacher_row);
  for (size_t u = 0; u < groups.teacher.size(); u += kChunk) {
    const size_t stop = std::min(u + kChunk, groups.teacher.size());
    const Tensor teacher_rows = upload(groups.teacher, u, stop, in.hidden);
    const Tensor rows =
        upload(groups.order, size_t(groups.start[u]), size_t(groups.start[stop]), in.hidden);
    const TeacherChunk teacher = label(*in.teacher, teacher_rows);
    const Tensor local = at::searchsorted(teacher_rows, in.teacher_row.index_select(0, rows));

    const Tensor hidden = in.hidden.index_select(0, rows);
    const StudentChunk chunk = compare(product(hidden, head.t()), teacher, local,
                                       row_weight.index_select(0, rows), wants_gradient);
    out.values.loss.index_copy_(0, rows, chunk.loss);
    out.values.alpha.index_copy_(0, rows, chunk.alpha);
    out.values.hit.index_copy_(0, rows, chunk.hit);
    out.values.in_vocab.index_copy_(0, rows, teacher.label.index_select(0, local).ge(0));
    if (!wants_gradient) continue;
    const Tensor gradient = chunk.logits.to(in.hidden.scalar_type());
    if (in.hidden_grad)
      out.grads.hidden.index_copy_(0, rows, product(gradient, head).to(in.hidden.scalar_type()));
    if (in.head_grad) out.grads.head.add_(product(gradient.t(), hidden));
  }
  out.values.total = (out.values.loss * row_weight).sum();
  return out;
}

}  // namespace aerie::cuda
