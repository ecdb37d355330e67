// The fused head and its loss in bf16. Teacher rows go in chunks: their full-vocabulary
// logits pass by in panels that stay in cache, leaving the argmax, the log-sum-exp and the softmax
// over the draft vocabulary. Then the students of those rows, of all unroll depths, go in blocks:
// logits, loss, gradient of the logits, and the two products of the backward.
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

#include "common/threads.h"
#include "kernels/cpu/head_loss_rows.h"
#include "kernels/cpu/outer_product.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tensor_bits.h"
#include "kernels/cpu/training.h"

namespace aerie::ops::cpu {
namespace {

using namespace aerie::cpu;

// Large enough that the weights, which pass by once a chunk, cost little beside the arithmetic;
// small enough that a chunk's logits stay in the last-level cache.
constexpr int64_t kTeacherRows = 256, kStudentRows = 512;
constexpr int64_t kPanelsAtOnce = 8;  // 256 logits of each teacher row at a time

// Rows a power of two apart fall into the same cache sets; a line more keeps the tile loads apart.
constexpr int64_t kSkew = 32;

/// Rows of x [.., C] in the order of `index`, as a dense block.
void gather_rows(bf16* out, const Tensor& x, const int64_t* index, int64_t count) {
  const int64_t width = x.size(1);
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(bits(x) + index[i] * width, width, out + i * width);
  }
}

class HeadLossRun {
 public:
  explicit HeadLossRun(const HeadLossInputs& in)
      : in_(in),
        rows_(head_loss_rows()),
        only_kl_(in.mix.only_kl()),
        groups_(group_by_teacher(in.teacher_row)),
        hidden_(in.hidden.contiguous()),
        teacher_hidden_(in.teacher->hidden.contiguous()),
        target_of_(in.teacher->target_of.to(at::kInt).contiguous()),
        draft_of_(in.teacher->draft_of.contiguous()),
        row_weight_(in.row_weight.to(at::kFloat).contiguous()),
        vocab_(in.teacher->head->out_features),
        draft_vocab_(in.head->out_features),
        width_(in.head->in_features),
        stride_((draft_vocab_ + kKBlock - 1) / kKBlock * kKBlock + kSkew) {}

  HeadLossOutput run() {
    const int64_t count = hidden_.size(0);
    out_.values = {at::zeros({count}, at::kFloat),
                   at::zeros({count}, at::kBool),
                   at::zeros({count}, at::kBool),
                   at::zeros({count}, at::kFloat),
                   {}};
    if (in_.hidden_grad) out_.grads.hidden = at::zeros_like(hidden_);
    if (in_.head_grad) out_.grads.head = at::zeros({draft_vocab_, width_}, at::kFloat);
    make_buffers();
    const auto teachers = static_cast<int64_t>(groups_.teacher.size());
    for (int64_t u = 0; u < teachers; u += kTeacherRows) {
      const int64_t stop = std::min(u + kTeacherRows, teachers);
      label_teachers(u, stop);
      const int64_t end = groups_.start[static_cast<size_t>(stop)];
      for (int64_t s = groups_.start[static_cast<size_t>(u)]; s < end; s += kStudentRows) {
        score_students(u, s, std::min(s + kStudentRows, end));
      }
    }
    out_.values.total = (out_.values.loss * row_weight_).sum();
    return std::move(out_);
  }

 private:
  /// All work memory is one kept block: some 40 MB of fresh pages for every call would cost more
  /// than the softmax.
  void make_buffers() {
    const auto teachers =
        std::min<int64_t>(kTeacherRows, static_cast<int64_t>(groups_.teacher.size()));
    const int64_t students = std::min(kStudentRows, hidden_.size(0));
    labels_.resize(static_cast<size_t>(teachers));
    for (const bool measure : {true, false}) {
      size_t used = 0;
      auto* base =
          measure ? nullptr : static_cast<std::byte*>(scratch(Scratch::kHeadLoss, block_size_));
      const auto take = [&](auto*& pointer, int64_t count) {
        if (!measure)
          pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + used);
        used += (static_cast<size_t>(count) * sizeof(*pointer) + 63) / 64 * 64;
      };
      take(p_, teachers * draft_vocab_);
      take(logits_, students * stride_);
      take(d_hidden_, students * width_);
      take(teacher_block_, teachers * in_.teacher->head->in_features);
      take(student_block_, students * width_);
      take(d_logits_, in_.hidden_grad || in_.head_grad ? students * stride_ : 0);
      block_size_ = used;
    }
    if (!in_.hidden_grad && !in_.head_grad) d_logits_ = nullptr;
    for (int64_t i = 0; d_logits_ != nullptr && i < students; ++i) {  // the padding of k
      std::fill(d_logits_ + i * stride_ + draft_vocab_, d_logits_ + (i + 1) * stride_, bf16{0});
    }
  }

  /// Fills p_ and labels_ for the teacher groups [begin, end).
  void label_teachers(int64_t begin, int64_t end) {
    const int64_t count = end - begin, panels = (vocab_ + kPanel - 1) / kPanel;
    const int64_t parts = (panels + kPanelsAtOnce - 1) / kPanelsAtOnce;
    gather_rows(teacher_block_, teacher_hidden_, groups_.teacher.data() + begin, count);
    std::vector<RowStatistics> statistics(static_cast<size_t>(parts * count));
    parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t part = first; part < last; ++part) {
        teacher_part(part, count, statistics.data() + part * count);
      }
    });
    parallel_for(0, count, 4, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) finish_label(i, count, statistics, parts);
    });
  }

  /// One group of panels of the full vocabulary for all rows of the chunk.
  void teacher_part(int64_t part, int64_t count, RowStatistics* statistics) {
    constexpr int64_t kColumns = kPanelsAtOnce * kPanel;
    const LinearWeight& head = *in_.teacher->head;
    const int64_t k = head.in_features, blocks = (k + kKBlock - 1) / kKBlock,
                  column = part * kColumns;
    const int64_t columns = std::min(kColumns, vocab_ - column);
    auto* scores = static_cast<float*>(
        scratch(Scratch::kLogits, static_cast<size_t>(count * kColumns) * sizeof(float)));
    gemm({.m = count,
          .n = columns,
          .k = k,
          .a = teacher_block_,
          .lda = k,
          .b = bits(head.packed) + part * kPanelsAtOnce * kPanel * blocks * kKBlock,
          .c_f32 = scores,
          .ldc = kColumns});
    const int32_t* target = target_of_.const_data_ptr<int32_t>();
    const int64_t from = std::lower_bound(target, target + draft_vocab_, column) - target;
    const int64_t to =
        std::lower_bound(target + from, target + draft_vocab_, column + columns) - target;
    float* p = p_;
    for (int64_t i = 0; i < count; ++i) {
      statistics[i] = rows_.statistics(scores + i * kColumns, columns);
      statistics[i].argmax += column;
      rows_.gather(p + i * draft_vocab_ + from, scores + i * kColumns, target + from, column,
                   to - from);
    }
  }

  void finish_label(int64_t i, int64_t count, const std::vector<RowStatistics>& statistics,
                    int64_t parts) {
    RowStatistics best = statistics[static_cast<size_t>(i)];
    for (int64_t part = 1; part < parts; ++part) {
      const RowStatistics& next = statistics[static_cast<size_t>(part * count + i)];
      const float top = std::max(best.max, next.max);
      best.sum = best.sum * std::exp(best.max - top) + next.sum * std::exp(next.max - top);
      if (next.max > best.max) best.argmax = next.argmax;
      best.max = top;
    }
    float* p = p_ + i * draft_vocab_;
    TeacherRow& row = labels_[static_cast<size_t>(i)];
    const float lse = rows_.softmax(p, draft_vocab_, &row.entropy);
    row.p = p;
    row.mass = std::exp(lse - best.max - std::log(best.sum));
    row.label = draft_of_.const_data_ptr<int64_t>()[best.argmax];
  }

  /// The students order[begin, end), labelled by the chunk that begins at teacher group
  /// `first_teacher`.
  void score_students(int64_t first_teacher, int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const int64_t* index = groups_.order.data() + begin;
    gather_rows(student_block_, hidden_, index, count);
    gemm({.m = count,
          .n = draft_vocab_,
          .k = width_,
          .a = student_block_,
          .lda = width_,
          .b = bits(in_.head->packed),
          .c_f32 = logits_,
          .ldc = stride_});
    parallel_for(0, count, 8, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        score_row(i, index[i], group_of(begin + i) - first_teacher);
    });
    if (in_.hidden_grad) add_hidden_grad(index, count);
    if (in_.head_grad) add_head_grad(count);
  }

  /// Which teacher group the student at this place of the order belongs to.
  int64_t group_of(int64_t place) const {
    return std::upper_bound(groups_.start.begin(), groups_.start.end(), place) -
           groups_.start.begin() - 1;
  }

  void score_row(int64_t i, int64_t row, int64_t label) {
    const TeacherRow& teacher = labels_[static_cast<size_t>(label)];
    const bool known = teacher.label >= 0;
    const float weight = known ? row_weight_.const_data_ptr<float>()[row] : 0;
    bf16* d_logits = d_logits_ != nullptr ? d_logits_ + i * stride_ : nullptr;
    float* logits = logits_ + i * stride_;
    const StudentResult result =
        only_kl_ ? rows_.student(logits, draft_vocab_, teacher, weight, d_logits)
                 : rows_.mixed_student(logits, draft_vocab_, teacher, in_.mix, weight, d_logits);
    out_.values.loss.mutable_data_ptr<float>()[row] = known ? result.loss : 0;
    out_.values.alpha.mutable_data_ptr<float>()[row] = result.alpha;
    out_.values.in_vocab.mutable_data_ptr<bool>()[row] = known;
    out_.values.hit.mutable_data_ptr<bool>()[row] = known && result.argmax == teacher.label;
  }

  /// d_hidden = d_logits * head, with k (the draft vocabulary) in slices whose part of d_logits
  /// stays in cache: the head passes by once a block, not once for every few rows.
  void add_hidden_grad(const int64_t* index, int64_t count) {
    constexpr int64_t kSlice = 1024;
    const int64_t panels = (width_ + kPanel - 1) / kPanel, depth = stride_ - kSkew;
    float* sums = d_hidden_;
    for (int64_t at = 0; at < depth; at += kSlice) {
      parallel_for(0, panels, 2, [&](int64_t first, int64_t last) {
        for (int64_t panel = first; panel < last; ++panel) {
          gemm({.m = count,
                .n = std::min(kPanel, width_ - panel * kPanel),
                .k = std::min(kSlice, depth - at),
                .a = d_logits_ + at,
                .lda = stride_,
                .b = bits(in_.head->packed_transpose) + (panel * depth + at) * kPanel,
                .c_f32 = sums + panel * kPanel,
                .c_bf16 = nullptr,
                .ldc = width_,
                .accumulate = at > 0});
        }
      });
    }
    auto* out = static_cast<at::BFloat16*>(out_.grads.hidden.data_ptr());
    parallel_for(0, count, 32, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        std::copy_n(sums + i * width_, width_, out + index[i] * width_);
    });
  }

  void add_head_grad(int64_t count) {
    add_outer_product({.sum = out_.grads.head.mutable_data_ptr<float>(),
                       .outputs = draft_vocab_,
                       .inputs = width_,
                       .rows = count,
                       .dy = d_logits_,
                       .dy_stride = stride_,
                       .x = student_block_,
                       .x_stride = width_});
  }

  const HeadLossInputs& in_;
  const HeadLossRows& rows_;
  const bool only_kl_;
  TeacherGroups groups_;
  Tensor hidden_, teacher_hidden_, target_of_, draft_of_, row_weight_;
  int64_t vocab_, draft_vocab_, width_, stride_;
  size_t block_size_ = 0;
  float *p_ = nullptr, *logits_ = nullptr, *d_hidden_ = nullptr;
  bf16 *teacher_block_ = nullptr, *student_block_ = nullptr, *d_logits_ = nullptr;
  std::vector<TeacherRow> labels_;
  HeadLossOutput out_;
};

}  // namespace

bool head_loss_supported(const HeadLossInputs& in) {
  const bool ready =
      in.hidden.is_cpu() && in.hidden.scalar_type() == at::kBFloat16 && in.head->packed.defined() &&
      in.teacher->hidden.scalar_type() == at::kBFloat16 && in.teacher->head->packed.defined();
  return ready && (!in.hidden_grad || in.head->packed_transpose.defined());
}

HeadLossOutput head_loss(const HeadLossInputs& in) { return HeadLossRun(in).run(); }

}  // namespace aerie::ops::cpu
