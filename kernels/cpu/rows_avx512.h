// Backward of the elementwise ops on rows of bf16, f32 inside. Each call
// handles `rows` rows in the caller's thread.
#pragma once
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {

/// rms_norm y = x r w with r = 1 / sqrt(mean(x^2) + eps): dx (may be null) and dw += (may be null).
void rms_norm_backward_rows(bf16* dx, float* dw, const bf16* dy, const bf16* x, const float* w,
                            int64_t rows, int64_t c, float eps);

/// swiglu: gate_up, d_gate_up [rows,2i], dy [rows,i].
void swiglu_backward_rows(bf16* d_gate_up, const bf16* dy, const bf16* gate_up, int64_t rows,
                          int64_t i);

/// rope: dy [rows,heads,d] rotated back by the angle tables [..,d/2] at each row's position.
struct RopeRows {
  const float *cos, *sin;
  int64_t heads, d;
};
void rope_backward_rows(bf16* dx, const bf16* dy, const int64_t* positions, int64_t rows,
                        const RopeRows& rope);

/// out += x, both [count] f32.
void add_rows(float* out, const float* x, int64_t count);

}  // namespace aerie::cpu
