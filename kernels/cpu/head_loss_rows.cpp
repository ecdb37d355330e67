#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/loss_loops.h"

namespace aerie::cpu {
namespace {

RowStatistics statistics(const float* scores, int64_t count) {
  const float* top = std::max_element(scores, scores + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(scores[i] - *top);
  return {*top, static_cast<float>(sum), top - scores};
}

void gather(float* out, const float* scores, const int32_t* columns, int64_t offset,
            int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = scores[columns[i] - offset];
}

float softmax(float* logits, int64_t count, float* entropy) {
  const float top = *std::max_element(logits, logits + count);
  double sum = 0, product = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float x = logits[i] - top;
    logits[i] = std::exp(x);
    sum += logits[i];
    product += logits[i] * x;
  }
  const auto inverse = static_cast<float>(1 / sum);
  for (int64_t i = 0; i < count; ++i) logits[i] *= inverse;
  *entropy = static_cast<float>(product / sum - std::log(sum));
  return top + static_cast<float>(std::log(sum));
}

struct Softmax {
  static Top find_top(const float* row, int64_t count) {
    const float* top = std::max_element(row, row + count);
    return {*top, top - row};
  }
  /// Replaces row by e^(row - top) and returns the sum; `dot` receives sum p (row - top).
  static float exponentials(float* row, int64_t count, float top, const float* p, float* dot) {
    double sum = 0, product = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float x = row[i] - top;
      row[i] = std::exp(x);
      sum += row[i];
      product += p[i] * x;
    }
    *dot = static_cast<float>(product);
    return static_cast<float>(sum);
  }
};

StudentResult student(float* logits, int64_t count, const TeacherRow& teacher, float weight,
                      bf16* d_logits) {
  const Top top = Softmax::find_top(logits, count);
  float product = 0;
  const float sum = Softmax::exponentials(logits, count, top.value, teacher.p, &product);
  double overlap = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float q = logits[i] / sum, p = teacher.p[i];
    overlap += std::min(teacher.mass * p, q);
    if (d_logits != nullptr) d_logits[i] = c10::detail::round_to_nearest_even((q - p) * weight);
  }
  return {teacher.entropy - product + std::log(sum), static_cast<float>(overlap), top.index};
}

}  // namespace

const HeadLossRows kHeadLossRowsPortable{statistics, gather, softmax, student,
                                         mixed_student<Softmax>};

const HeadLossRows& head_loss_rows(Isa isa) {
  return isa >= Isa::kAvx512 ? kHeadLossRowsAvx512 : kHeadLossRowsPortable;
}

}  // namespace aerie::cpu
