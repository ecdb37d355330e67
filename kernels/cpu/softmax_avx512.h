// The softmax of a block of scores in AVX-512; only sources that are compiled for it include this.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

struct VectorSoftmax {
  static float scale_and_highest(float* s, int64_t seen, int64_t width, float scale,
                                 float highest) {
    const __m512 masked = _mm512_set1_ps(-__builtin_inff()), factor = _mm512_set1_ps(scale);
    __m512 most = _mm512_set1_ps(highest);
    for (int64_t t = 0; t < width; t += 16) {
      const int64_t left = seen - t;
      const __mmask16 keep = left >= 16  ? 0xffff
                             : left <= 0 ? 0
                                         : static_cast<__mmask16>((1u << left) - 1);
      const __m512 scores = _mm512_mask_mul_ps(masked, keep, _mm512_load_ps(s + t), factor);
      _mm512_store_ps(s + t, scores);
      most = _mm512_max_ps(most, scores);
    }
    return _mm512_reduce_max_ps(most);
  }

  static float exponentials(bf16* p, const float* s, int64_t width, float highest) {
    const __m512 most = _mm512_set1_ps(highest);
    __m512 even = _mm512_setzero_ps(), odd = _mm512_setzero_ps();
    for (int64_t t = 0; t < width; t += 32) {
      const __m512 a = exponential16(_mm512_sub_ps(_mm512_load_ps(s + t), most));
      const __m512 b = exponential16(_mm512_sub_ps(_mm512_load_ps(s + t + 16), most));
      even = _mm512_add_ps(even, a);
      odd = _mm512_add_ps(odd, b);
      _mm512_store_si512(p + t, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
  }

 private:
  /// e^x for x <= 0, 0 below -87: 2^n times the Taylor polynomial of e^r, |r| <= ln(2)/2, to 1e-6
  /// relative, which is far below the rounding of the result to bf16.
  static __m512 exponential16(__m512 x) {
    const __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_GE_OQ);
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), kNearest);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.0f / 720);
    constexpr float kTaylor[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (float coefficient : kTaylor) y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(coefficient));
    return _mm512_maskz_scalef_ps(keep, y, n);
  }
};

}  // namespace
}  // namespace aerie::cpu
