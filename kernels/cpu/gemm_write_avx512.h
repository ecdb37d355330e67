// How the kernels with AVX-512 write a panel's sums to C.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

/// The panel's columns from `column` on that C has, a bit each.
inline uint32_t column_mask(const Gemm& g, int64_t column) {
  const int64_t columns = g.n - column;
  return columns >= kPanel ? ~0u : (1u << columns) - 1;
}

/// 32 sums of one row to C from element `at` on.
inline void write_row(const Gemm& g, int64_t at, uint32_t mask, __m512 first, __m512 second) {
  const __mmask16 low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
  if (g.c_bf16 != nullptr) {
    _mm512_mask_storeu_epi16(g.c_bf16 + at, mask, (__m512i)_mm512_cvtne2ps_pbh(second, first));
    return;
  }
  if (g.accumulate) {
    first = _mm512_add_ps(first, _mm512_maskz_loadu_ps(low, g.c_f32 + at));
    second = _mm512_add_ps(second, _mm512_maskz_loadu_ps(high, g.c_f32 + at + 16));
  }
  _mm512_mask_storeu_ps(g.c_f32 + at, low, first);
  _mm512_mask_storeu_ps(g.c_f32 + at + 16, high, second);
}

}  // namespace
}  // namespace aerie::cpu
