#include "kernels/cpu/head_loss_rows.h"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>

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

StudentResult student(float* logits, int64_t count, const TeacherRow& teacher, float weight,
                      bf16* d_logits) {
  const float* top = std::max_element(logits, logits + count);
  const int64_t argmax = top - logits;
  const float max = *top;
  double sum = 0, product = 0, overlap = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float x = logits[i] - max;
    logits[i] = std::exp(x);
    sum += logits[i];
    product += teacher.p[i] * x;
  }
  const auto inverse = static_cast<float>(1 / sum);
  for (int64_t i = 0; i < count; ++i) {
    const float q = logits[i] * inverse, p = teacher.p[i];
    overlap += std::min(teacher.mass * p, q);
    if (d_logits != nullptr) d_logits[i] = c10::detail::round_to_nearest_even((q - p) * weight);
  }
  return {static_cast<float>(teacher.entropy - product + std::log(sum)),
          static_cast<float>(overlap), argmax};
}

}  // namespace

const HeadLossRows kHeadLossRowsPortable{statistics, gather, softmax, student};

const HeadLossRows& head_loss_rows(Isa isa) {
  return isa >= Isa::kAvx512 ? kHeadLossRowsAvx512 : kHeadLossRowsPortable;
}

}  // namespace aerie::cpu
