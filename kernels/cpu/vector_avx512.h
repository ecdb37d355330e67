// Small AVX-512 pieces that several kernels share. Only sources compiled for AVX-512 or AMX include
// this; the unnamed namespace keeps the linker from using them elsewhere.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

inline __mmask16 lanes(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1);
}

/// 16 bf16 -> f32; lanes outside `mask` are zero.
inline __m512 widen(const bf16* at, __mmask16 mask = 0xffff) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at)), 16));
}

/// f32 -> 16 bf16, rounded to nearest even.
inline void narrow(bf16* at, __m512 value, __mmask16 mask = 0xffff) {
  _mm256_mask_storeu_epi16(at, mask, (__m256i)_mm512_cvtneps_pbh(value));
}

/// e^x to 2 ulp for x <= 88; 0 below -100. Reduction by powers of two, then Taylor to the sixth
/// power on |r| <= ln(2)/2.
inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);  // ln 2 in two parts
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
  __m512 p = _mm512_set1_ps(1.0f / 720);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

/// dot product of two bf16 vectors, d a multiple of 16
inline float dot(const bf16* a, const bf16* b, int64_t d) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < d; i += 16) sum = _mm512_fmadd_ps(widen(a + i), widen(b + i), sum);
  return _mm512_reduce_add_ps(sum);
}

/// sum += factor * x
inline void add_scaled(float* sum, float factor, const bf16* x, int64_t d) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < d; i += 16) {
    _mm512_storeu_ps(sum + i, _mm512_fmadd_ps(f, widen(x + i), _mm512_loadu_ps(sum + i)));
  }
}

/// Transposes 16 rows of 16 dwords in registers: four rounds of interleaving.
[[maybe_unused]] inline void transpose16(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
  }
}

}  // namespace
}  // namespace aerie::cpu
