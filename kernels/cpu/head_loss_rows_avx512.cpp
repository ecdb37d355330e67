#include <cmath>

#include "kernels/cpu/loss_loops.h"
#include "kernels/cpu/vector_avx512.h"

namespace aerie::cpu {
namespace {

Top find_top(const float* row, int64_t count) {
  __m512 best = _mm512_set1_ps(-3.4e38f);
  __m512i where = _mm512_set1_epi32(0),
          here = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < count; i += 16) {
    const __m512 x = _mm512_mask_loadu_ps(_mm512_set1_ps(-3.4e38f), lanes(count - i), row + i);
    const __mmask16 greater = _mm512_cmp_ps_mask(x, best, _CMP_GT_OQ);
    best = _mm512_mask_mov_ps(best, greater, x);
    where = _mm512_mask_mov_epi32(where, greater, here);
    here = _mm512_add_epi32(here, _mm512_set1_epi32(16));
  }
  const float value = _mm512_reduce_max_ps(best);
  const __mmask16 equal = _mm512_cmp_ps_mask(best, _mm512_set1_ps(value), _CMP_EQ_OQ);
  return {value, equal ? _mm512_mask_reduce_min_epi32(equal, where) : 0};
}

/// Replaces row by e^(row - top) and returns the sum; `dot`, where given, receives sum p (row -
/// top).
float exponentials(float* row, int64_t count, float top, const float* p, float* dot_out) {
  const __m512 shift = _mm512_set1_ps(top);
  __m512 sum = _mm512_setzero_ps(), product = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, row + i), shift);
    const __m512 e = exponential(x);
    _mm512_mask_storeu_ps(row + i, mask, e);
    sum = _mm512_mask_add_ps(sum, mask, sum, e);
    if (p != nullptr) product = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, p + i), x, product);
  }
  if (dot_out != nullptr) *dot_out = _mm512_reduce_add_ps(product);
  return _mm512_reduce_add_ps(sum);
}

RowStatistics statistics(const float* scores, int64_t count) {
  const Top top = find_top(scores, count);
  const __m512 shift = _mm512_set1_ps(top.value);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    const __m512 e = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + i), shift));
    sum = _mm512_mask_add_ps(sum, mask, sum, e);
  }
  return {top.value, _mm512_reduce_add_ps(sum), top.index};
}

void gather(float* out, const float* scores, const int32_t* columns, int64_t offset,
            int64_t count) {
  const __m512i shift = _mm512_set1_epi32(static_cast<int32_t>(offset));
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    const __m512i index = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(mask, columns + i), shift);
    const __m512 values = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, index, scores, 4);
    _mm512_mask_storeu_ps(out + i, mask, values);
  }
}

float softmax(float* logits, int64_t count, float* entropy) {
  const Top top = find_top(logits, count);
  const __m512 shift = _mm512_set1_ps(top.value);
  __m512 sum = _mm512_setzero_ps(), product = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    const __m512 x = _mm512_sub_ps(_mm512_maskz_loadu_ps(mask, logits + i), shift);
    const __m512 e = _mm512_maskz_mov_ps(mask, exponential(x));
    _mm512_mask_storeu_ps(logits + i, mask, e);
    sum = _mm512_add_ps(sum, e);
    product = _mm512_fmadd_ps(e, x, product);
  }
  const float total = _mm512_reduce_add_ps(sum), log_total = std::log(total);
  const __m512 inverse = _mm512_set1_ps(1 / total);
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    _mm512_mask_storeu_ps(logits + i, mask,
                          _mm512_mul_ps(inverse, _mm512_maskz_loadu_ps(mask, logits + i)));
  }
  *entropy = _mm512_reduce_add_ps(product) / total - log_total;
  return top.value + log_total;
}

StudentResult student(float* logits, int64_t count, const TeacherRow& teacher, float weight,
                      bf16* d_logits) {
  const Top top = find_top(logits, count);
  float product = 0;
  const float sum = exponentials(logits, count, top.value, teacher.p, &product);
  const __m512 inverse = _mm512_set1_ps(1 / sum), mass = _mm512_set1_ps(teacher.mass),
               factor = _mm512_set1_ps(weight);
  __m512 overlap = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    const __m512 q = _mm512_mul_ps(inverse, _mm512_maskz_loadu_ps(mask, logits + i));
    const __m512 p = _mm512_maskz_loadu_ps(mask, teacher.p + i);
    overlap = _mm512_add_ps(overlap, _mm512_min_ps(_mm512_mul_ps(mass, p), q));
    if (d_logits != nullptr) narrow(d_logits + i, _mm512_mul_ps(factor, _mm512_sub_ps(q, p)), mask);
  }
  return {teacher.entropy - product + std::log(sum), _mm512_reduce_add_ps(overlap), top.index};
}

struct Softmax {
  static Top find_top(const float* row, int64_t count) { return cpu::find_top(row, count); }
  static float exponentials(float* row, int64_t count, float top, const float* p, float* dot) {
    return cpu::exponentials(row, count, top, p, dot);
  }
};

}  // namespace

const HeadLossRows kHeadLossRowsAvx512{statistics, gather, softmax, student,
                                       mixed_student<Softmax>};

}  // namespace aerie::cpu
