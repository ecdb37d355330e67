// The softmax of a block of scores in AVX-512; only sources that are compiled for it include this.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/paged_attention_parts.h"

namespace aerie::cpu {
namespace {

/// 16 rows at a time: what a row folds of its lanes is folded for all of them at once, each row in
/// the same order wherever it stands.
struct VectorSoftmax {
  static bool tile(const SoftmaxTile& t) {
    const __mmask16 rows = static_cast<__mmask16>((1u << t.rows) - 1);
    __m512 partial[kTileRows];
    for (int64_t r = 0; r < kTileRows; ++r) {
      partial[r] = r < t.rows ? highest_of(t.s + r * kBlockTokens, t.seen[r], t.width)
                              : _mm512_set1_ps(kMasked);
    }
    const __m512 before = _mm512_mask_loadu_ps(_mm512_setzero_ps(), rows, t.highest),
                 highest = _mm512_max_ps(
                     before, fold(partial, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); }));
    const float to_two = t.scale * 1.44269504f;  // e^x = 2^(x / ln 2)
    const __m512 factor = _mm512_set1_ps(to_two);
    alignas(64) float shift[kTileRows];
    _mm512_store_ps(shift, _mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), highest), factor));
    for (int64_t r = 0; r < t.rows; ++r) {
      const int64_t at = r * kBlockTokens;
      partial[r] = exponentials(t.p + at, t.s + at, t.width, factor, _mm512_set1_ps(shift[r]));
    }
    const __m512 sum = fold(partial, [](__m512 a, __m512 b) { return _mm512_add_ps(a, b); });
    const __mmask16 grown = rows & _mm512_cmp_ps_mask(highest, before, _CMP_NEQ_UQ);
    const __m512 shrink =
        _mm512_mask_mov_ps(_mm512_set1_ps(1), grown,
                           power_of_two(_mm512_mul_ps(_mm512_sub_ps(before, highest), factor)));
    const __m512 held = _mm512_maskz_loadu_ps(rows, t.denominator);
    _mm512_mask_storeu_ps(t.denominator, rows, _mm512_fmadd_ps(held, shrink, sum));
    _mm512_mask_storeu_ps(t.highest, rows, highest);
    _mm512_storeu_ps(t.shrink, shrink);
    return grown != 0;
  }

 private:
  /// Masks the scores beyond the first `seen`; the greatest of those, lane by lane
  static __m512 highest_of(float* s, int64_t seen, int64_t width) {
    const __m512 masked = _mm512_set1_ps(kMasked);
    __m512 most = masked;
    const int64_t whole = seen <= 0 ? 0 : seen < width ? seen / 16 * 16 : width;
    for (int64_t t = 0; t < whole; t += 16) most = _mm512_max_ps(most, _mm512_load_ps(s + t));
    for (int64_t t = whole; t < width; t += 16) {
      const __mmask16 keep =
          seen <= t ? 0 : static_cast<__mmask16>((1u << (seen - t < 16 ? seen - t : 16)) - 1);
      const __m512 scores = _mm512_mask_mov_ps(masked, keep, _mm512_load_ps(s + t));
      _mm512_store_ps(s + t, scores);
      most = _mm512_max_ps(most, scores);
    }
    return most;
  }

  /// p = 2^(s factor + shift); returns their sums, lane by lane
  static __m512 exponentials(bf16* p, const float* s, int64_t width, __m512 factor, __m512 shift) {
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (int64_t t = 0; t < width; t += 32) {
      const __m512 a = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(s + t), factor, shift));
      const __m512 b = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(s + t + 16), factor, shift));
      even = _mm512_add_ps(even, a);
      odd = _mm512_add_ps(odd, b);
      _mm512_store_si512(p + t, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    return _mm512_add_ps(even, odd);
  }

  /// Lane r: what all lanes of v[r] combine to. A transposition whose rounds combine what they
  /// interleave.
  template <typename Combine>
  static __m512 fold(__m512* v, const Combine& combine) {
    for (int i = 0; i < 8; ++i) {
      v[i] = combine(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]),
                     _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    }
    for (int i = 0; i < 4; ++i) {
      const __m512d a = _mm512_castps_pd(v[2 * i]), b = _mm512_castps_pd(v[2 * i + 1]);
      v[i] = combine(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                     _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int count = 2; count > 0; --count) {
      for (int i = 0; i < count; ++i) {
        v[i] = combine(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x88),
                       _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xdd));
      }
    }
    return v[0];
  }

  /// 2^x for x <= 0, also -infinity: 2^floor(x) times the minimax polynomial of 2^r, 0 <= r < 1, to
  /// 2e-7 relative, which is far below the rounding of the result to bf16.
  static __m512 power_of_two(__m512 x) {
    const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 y = _mm512_set1_ps(1.87757658e-3f);
    constexpr float kMinimax[] = {8.98934063e-3f, 5.58263175e-2f, 0.240153611f, 0.693153083f,
                                  0.99999994f};
    for (float coefficient : kMinimax) y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(coefficient));
    return _mm512_scalef_ps(y, x);  // takes the floor of x
  }
};

}  // namespace
}  // namespace aerie::cpu
