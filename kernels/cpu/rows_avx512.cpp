#include "kernels/cpu/rows_avx512.h"

#include "kernels/cpu/vector_avx512.h"

namespace aerie::cpu {
namespace {

float inverse_rms(const bf16* x, int64_t c, float eps) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < c; i += 16) {
    const __m512 v = widen(x + i, lanes(c - i));
    sum = _mm512_fmadd_ps(v, v, sum);
  }
  return 1 / __builtin_sqrtf(_mm512_reduce_add_ps(sum) / static_cast<float>(c) + eps);
}

/// 1 / (1 + e^-x)
__m512 sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1);
  const __m512 e =
      exponential(_mm512_min_ps(_mm512_set1_ps(88), _mm512_sub_ps(_mm512_setzero_ps(), x)));
  return _mm512_div_ps(one, _mm512_add_ps(one, e));
}

}  // namespace

// With n = x r: dw = sum dy n; dx = r (w dy - n mean(w dy n)).
void rms_norm_backward_rows(bf16* dx, float* dw, const bf16* dy, const bf16* x, const float* w,
                            int64_t rows, int64_t c, float eps) {
  for (int64_t row = 0; row < rows; ++row, x += c, dy += c) {
    const float scale = inverse_rms(x, c, eps);
    const __m512 r = _mm512_set1_ps(scale);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < c; i += 16) {
      const __mmask16 mask = lanes(c - i);
      const __m512 product =
          _mm512_mul_ps(widen(dy + i, mask), _mm512_mul_ps(widen(x + i, mask), r));
      sum = _mm512_fmadd_ps(product, _mm512_maskz_loadu_ps(mask, w + i), sum);
      if (dw != nullptr)
        _mm512_mask_storeu_ps(dw + i, mask,
                              _mm512_add_ps(product, _mm512_maskz_loadu_ps(mask, dw + i)));
    }
    if (dx == nullptr) continue;
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / static_cast<float>(c) * scale);
    for (int64_t i = 0; i < c; i += 16) {
      const __mmask16 mask = lanes(c - i);
      const __m512 wd = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, w + i), widen(dy + i, mask));
      narrow(dx + i, _mm512_mul_ps(r, _mm512_fnmadd_ps(widen(x + i, mask), mean, wd)), mask);
    }
    dx += c;
  }
}

// silu'(g) = s (1 + g (1 - s)) with s the sigmoid of g.
void swiglu_backward_rows(bf16* d_gate_up, const bf16* dy, const bf16* gate_up, int64_t rows,
                          int64_t width) {
  const __m512 one = _mm512_set1_ps(1);
  for (int64_t row = 0; row < rows;
       ++row, gate_up += 2 * width, d_gate_up += 2 * width, dy += width) {
    for (int64_t i = 0; i < width; i += 16) {
      const __mmask16 mask = lanes(width - i);
      const __m512 gate = widen(gate_up + i, mask), up = widen(gate_up + width + i, mask),
                   d = widen(dy + i, mask);
      const __m512 s = sigmoid(gate);
      const __m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(gate, _mm512_sub_ps(one, s), one));
      narrow(d_gate_up + i, _mm512_mul_ps(d, _mm512_mul_ps(up, slope)), mask);
      narrow(d_gate_up + width + i, _mm512_mul_ps(d, _mm512_mul_ps(gate, s)), mask);
    }
  }
}

// A rotation's transpose is the rotation by the opposite angle, times the same attention scaling.
void rope_backward_rows(bf16* dx, const bf16* dy, const int64_t* positions, int64_t rows,
                        const RopeRows& rope) {
  const int64_t half = rope.d / 2;
  for (int64_t row = 0; row < rows; ++row) {
    const float *cos = rope.cos + positions[row] * half, *sin = rope.sin + positions[row] * half;
    for (int64_t head = 0; head < rope.heads; ++head, dx += rope.d, dy += rope.d) {
      for (int64_t i = 0; i < half; i += 16) {
        const __mmask16 mask = lanes(half - i);
        const __m512 c = _mm512_maskz_loadu_ps(mask, cos + i),
                     s = _mm512_maskz_loadu_ps(mask, sin + i);
        const __m512 a = widen(dy + i, mask), b = widen(dy + half + i, mask);
        narrow(dx + i, _mm512_fmadd_ps(a, c, _mm512_mul_ps(b, s)), mask);
        narrow(dx + half + i, _mm512_fmsub_ps(b, c, _mm512_mul_ps(a, s)), mask);
      }
    }
  }
}

void add_rows(float* out, const float* x, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = lanes(count - i);
    _mm512_mask_storeu_ps(
        out + i, mask,
        _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out + i), _mm512_maskz_loadu_ps(mask, x + i)));
  }
}

}  // namespace aerie::cpu
