// The softmax of a block of scores in AVX-512; only sources that are compiled for it include this.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

struct VectorSoftmax {
  static float mask_and_highest(float* s, int64_t seen, int64_t width, float highest) {
    const __m512 masked = _mm512_set1_ps(-__builtin_inff());
    __m512 most = _mm512_set1_ps(highest);
    const int64_t whole = seen < width ? seen / 16 * 16 : width;
    for (int64_t t = 0; t < whole; t += 16) most = _mm512_max_ps(most, _mm512_load_ps(s + t));
    for (int64_t t = whole; t < width; t += 16) {
      const __mmask16 keep =
          seen <= t ? 0 : static_cast<__mmask16>((1u << (seen - t < 16 ? seen - t : 16)) - 1);
      const __m512 scores = _mm512_mask_mov_ps(masked, keep, _mm512_load_ps(s + t));
      _mm512_store_ps(s + t, scores);
      most = _mm512_max_ps(most, scores);
    }
    return _mm512_reduce_max_ps(most);
  }

  static float exponentials(bf16* p, const float* s, int64_t width, float scale, float highest) {
    const float to_two = scale * 1.44269504f;  // e^x = 2^(x / ln 2)
    const __m512 factor = _mm512_set1_ps(to_two), shift = _mm512_set1_ps(-highest * to_two);
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (int64_t t = 0; t < width; t += 32) {
      const __m512 a = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(s + t), factor, shift));
      const __m512 b = power_of_two(_mm512_fmadd_ps(_mm512_load_ps(s + t + 16), factor, shift));
      even = _mm512_add_ps(even, a);
      odd = _mm512_add_ps(odd, b);
      _mm512_store_si512(p + t, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
  }

 private:
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
