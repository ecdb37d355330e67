// Norms, rotary embedding and SwiGLU of one row, one pass each, f32 inside; raw pointers, no torch.
// T is bf16 or float.
#pragma once
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa.h"

namespace aerie::cpu {

template <typename T>
struct RowOps {
  /// out[c] = x[c] / sqrt(mean(x^2) + eps) * weight[c]
  void (*rms_norm)(T* out, const T* x, const float* weight, float eps, int64_t columns);
  /// residual += x, rounded to T; then as above of the rounded sum
  void (*add_rms_norm)(T* out, T* residual, const T* x, const float* weight, float eps,
                       int64_t columns);
  /// out[c] = silu(gate_up[c]) * gate_up[columns + c]
  void (*swiglu)(T* out, const T* gate_up, int64_t columns);
  /// One row of heads: pairs (c, c + head_dim/2) turned by the angle whose cos and sin [head_dim/2]
  /// are given
  void (*rope)(T* out, const T* x, const float* cos, const float* sin, int64_t heads,
               int64_t head_dim);
};

template <typename T>
const RowOps<T>& row_ops(Isa isa = best_isa());

}  // namespace aerie::cpu
