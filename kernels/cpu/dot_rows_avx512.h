// The inner loop of the bf16 products where there are no tiles: rows by 32 outputs in registers.
// Only sources compiled for AVX-512 include this.
#pragma once
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

/// Sums of kRows rows and 32 outputs. Each row is summed in the order of k whatever kRows is.
template <int kRows>
struct DotRows {
  __m512 first[kRows], second[kRows];

  void clear() {
    for (int r = 0; r < kRows; ++r) first[r] = second[r] = _mm512_setzero_ps();
  }
  /// Rows `stride` floats apart.
  void load(const float* sums, int64_t stride) {
    for (int r = 0; r < kRows; ++r) {
      first[r] = _mm512_loadu_ps(sums + r * stride);
      second[r] = _mm512_loadu_ps(sums + r * stride + 16);
    }
  }
  void store(float* sums, int64_t stride) const {
    for (int r = 0; r < kRows; ++r) {
      _mm512_storeu_ps(sums + r * stride, first[r]);
      _mm512_storeu_ps(sums + r * stride + 16, second[r]);
    }
  }

  /// Adds `pairs` pairs of k: a [kRows][2 pairs], rows `stride` apart; b0 and b1 [pairs][16][2].
  void add(const bf16* a, int64_t stride, const bf16* b0, const bf16* b1, int64_t pairs) {
    for (int64_t pair = 0; pair < pairs; ++pair, a += 2, b0 += 32, b1 += 32) {
      const __m512bh low = tile_row(b0), high = tile_row(b1);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512bh x = pair_of(a + r * stride);
        first[r] = _mm512_dpbf16_ps(first[r], x, low);
        second[r] = _mm512_dpbf16_ps(second[r], x, high);
      }
    }
  }

  /// The same of two tiles, one behind the other, that are in the cache, while as many of the bytes
  /// at `ahead` are fetched.
  void add_fetching(const bf16* a, int64_t stride, const bf16* b, int64_t pairs,
                    const bf16* ahead) {
    for (int64_t pair = 0; pair < pairs; ++pair) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead + pair * 64), _MM_HINT_T1);
      _mm_prefetch(reinterpret_cast<const char*>(ahead + pair * 64 + 32), _MM_HINT_T1);
      add(a + pair * 2, stride, b + pair * 32, b + (pairs + pair) * 32, 1);
    }
  }

  /// The same of two tiles, one behind the other, that come from memory: b is read from its begin
  /// to its end, because two streams side by side defeat the hardware's fetching ahead (Zen 4 then
  /// reads at 60 % of its speed).
  void add_stream(const bf16* a, int64_t stride, const bf16* b, int64_t pairs) {
    add_tile(first, a, stride, b, pairs);
    add_tile(second, a, stride, b + pairs * 32, pairs);
  }

 private:
  static constexpr int64_t kAhead = 8192;  // bytes that the stream is asked for ahead

  static __m512bh tile_row(const bf16* b) { return (__m512bh)_mm512_loadu_si512(b); }
  static __m512bh pair_of(const bf16* a) {
    int32_t both;
    std::memcpy(&both, a, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
  }

  static void add_tile(__m512 (&sums)[kRows], const bf16* a, int64_t stride, const bf16* b,
                       int64_t pairs) {
    for (int64_t pair = 0; pair < pairs; ++pair, a += 2, b += 32) {
      _mm_prefetch(reinterpret_cast<const char*>(b) + kAhead, _MM_HINT_T0);
      const __m512bh row = tile_row(b);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r)
        sums[r] = _mm512_dpbf16_ps(sums[r], pair_of(a + r * stride), row);
    }
  }
};

/// work(DotRows<n>, first row) for `rows` rows, eight at a time and then what is left.
template <typename Work>
inline void for_rows(int64_t rows, const Work& work) {
  int64_t row = 0;
  for (; row + 8 <= rows; row += 8) work(DotRows<8>{}, row);
  switch (rows - row) {
    case 1:
      return work(DotRows<1>{}, row);
    case 2:
      return work(DotRows<2>{}, row);
    case 3:
      return work(DotRows<3>{}, row);
    case 4:
      return work(DotRows<4>{}, row);
    case 5:
      return work(DotRows<5>{}, row);
    case 6:
      return work(DotRows<6>{}, row);
    case 7:
      return work(DotRows<7>{}, row);
    default:
      return;
  }
}

}  // namespace
}  // namespace aerie::cpu
