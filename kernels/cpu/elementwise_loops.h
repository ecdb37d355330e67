// The rows of elementwise.h as loops that the compiler vectorises; compiled once for each
// instruction set.
#pragma once
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/math_loops.h"

namespace aerie::cpu {

extern const RowOps<bf16> kRowsPortableBf16, kRowsAvx2Bf16, kRowsAvx512Bf16;
extern const RowOps<float> kRowsPortableF32, kRowsAvx2F32, kRowsAvx512F32;

namespace {

/// Sum of squares in a fixed order of kLanes partial sums.
template <typename T>
float sum_of_squares(const T* x, int64_t columns) {
  float partial[kLanes] = {};
  int64_t c = 0;
  for (; c + kLanes <= columns; c += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane)
      partial[lane] += widen(x[c + lane]) * widen(x[c + lane]);
  }
  for (; c < columns; ++c) partial[c % kLanes] += widen(x[c]) * widen(x[c]);
  return fold_lanes(partial, [](float a, float b) { return a + b; });
}

template <typename T>
void rms_norm_row(T* out, const T* x, const float* weight, float eps, int64_t columns) {
  const float mean = sum_of_squares(x, columns) / static_cast<float>(columns);
  const float scale = 1.0f / __builtin_sqrtf(mean + eps);
  for (int64_t c = 0; c < columns; ++c) out[c] = narrow<T>(widen(x[c]) * scale * weight[c]);
}

template <typename T>
void add_rms_norm_row(T* out, T* residual, const T* x, const float* weight, float eps,
                      int64_t columns) {
  for (int64_t c = 0; c < columns; ++c) residual[c] = narrow<T>(widen(residual[c]) + widen(x[c]));
  rms_norm_row(out, residual, weight, eps, columns);
}

template <typename T>
void swiglu_row(T* out, const T* gate_up, int64_t columns) {
  const T* up = gate_up + columns;
  for (int64_t c = 0; c < columns; ++c) {
    const float gate = widen(gate_up[c]);
    out[c] = narrow<T>(gate / (1.0f + exponential(-gate)) * widen(up[c]));
  }
}

template <typename T>
void rope_row(T* __restrict out, const T* __restrict x, const float* cos, const float* sin,
              int64_t heads, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head, out += head_dim, x += head_dim) {
    for (int64_t c = 0; c < half; ++c) {
      const float a = widen(x[c]), b = widen(x[c + half]);
      out[c] = narrow<T>(a * cos[c] - b * sin[c]);
      out[c + half] = narrow<T>(b * cos[c] + a * sin[c]);
    }
  }
}

template <typename T>
constexpr RowOps<T> kRowLoops{rms_norm_row<T>, add_rms_norm_row<T>, swiglu_row<T>, rope_row<T>};

}  // namespace
}  // namespace aerie::cpu
