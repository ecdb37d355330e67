// The inner loop of the bf16 products in AVX2 with FMA: pairs of bf16 become f32 in registers,
// where up to four rows share them. Only sources compiled for AVX2 include this.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

/// The first and the second of each pair of bf16, as f32.
struct Halves {
  __m256 first, second;
};

inline Halves widen_pairs(__m256i pairs) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(pairs, upper))};
}

inline Halves pair_of(const bf16* a) {
  int32_t both;
  __builtin_memcpy(&both, a, sizeof both);
  return widen_pairs(_mm256_set1_epi32(both));
}

/// Sums of kRows rows and 16 outputs. Each row is summed in the order of k whatever kRows is.
template <int kRows>
struct DotRows {
  __m256 low[kRows], high[kRows];  // outputs 0 to 7, 8 to 15

  void clear() {
    for (int r = 0; r < kRows; ++r) low[r] = high[r] = _mm256_setzero_ps();
  }
  /// Rows `stride` floats apart.
  void load(const float* sums, int64_t stride) {
    for (int r = 0; r < kRows; ++r) {
      low[r] = _mm256_loadu_ps(sums + r * stride);
      high[r] = _mm256_loadu_ps(sums + r * stride + 8);
    }
  }
  void store(float* sums, int64_t stride) const {
    for (int r = 0; r < kRows; ++r) {
      _mm256_storeu_ps(sums + r * stride, low[r]);
      _mm256_storeu_ps(sums + r * stride + 8, high[r]);
    }
  }

  /// Adds `pairs` pairs of k: a [kRows][2 pairs], rows `stride` apart; b [pairs][16][2]. `ahead`:
  /// kFetched cache lines a pair are asked for there.
  template <int kFetched = 0>
  void add(const bf16* a, int64_t stride, const bf16* b, int64_t pairs,
           const char* ahead = nullptr) {
    for (int64_t pair = 0; pair < pairs; ++pair, a += 2, b += 32) {
      for (int line = 0; line < kFetched; ++line, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T0);
      const Halves w0 = widen_pairs(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b))),
                   w1 = widen_pairs(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 16)));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Halves x = pair_of(a + r * stride);
        low[r] = _mm256_fmadd_ps(x.first, w0.first, low[r]);
        high[r] = _mm256_fmadd_ps(x.first, w1.first, high[r]);
        low[r] = _mm256_fmadd_ps(x.second, w0.second, low[r]);
        high[r] = _mm256_fmadd_ps(x.second, w1.second, high[r]);
      }
    }
  }
};

/// work(DotRows<n>, first row) for `rows` rows, four at a time and then what is left.
template <typename Work>
inline void for_rows(int64_t rows, const Work& work) {
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) work(DotRows<4>{}, row);
  switch (rows - row) {
    case 1:
      return work(DotRows<1>{}, row);
    case 2:
      return work(DotRows<2>{}, row);
    case 3:
      return work(DotRows<3>{}, row);
    default:
      return;
  }
}

}  // namespace
}  // namespace aerie::cpu
