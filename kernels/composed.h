// The ops as compositions of ATen ops: the readable definition, what the hand-written kernels are
// tested against, and what runs where there is no such kernel (f32 on the CPU, CUDA). All are
// differentiable by ATen's own autograd.
#pragma once
#include "kernels/ops.h"

namespace aerie::ops::composed {

/// What sums are made in: f32 for bf16 and f32; f64 stays, for checks by finite differences.
inline at::ScalarType wide_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// What the losses of some students are made of (letters as in losses.h).
struct LossRows {
  Tensor log_p, p_full, log_q;  ///< [n,W]
  Tensor label;                 ///< [n] i64 draft id of the teacher's argmax, or -1
};
struct RowLosses {
  Tensor value;     ///< [n]
  Tensor gradient;  ///< [n,W] with respect to the student's logits
};
/// Defined in losses.cpp.
RowLosses row_losses(const LossMix& mix, const LossRows& rows);

/// The weight [O,I] itself, out of its tiles where only those are left; without its gradient.
Tensor dense(const LinearWeight& weight);

Tensor linear(const Tensor& x, const Tensor& weight);
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps);
Tensor swiglu(const Tensor& gate_up);
Tensor geglu(const Tensor& gate_up);
Tensor mixture(const Tensor& x, const Tensor& chosen, const Tensor& weights,
               const std::vector<Expert>& experts);
Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table);
Tensor segment_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts,
                         double scale);

// The plain page layout, of every pool that the CPU's bf16 kernels do not own: [pages, G,
// kPageSize, D].
void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v, const Tensor& slots);
void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots);
Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale, int64_t window = 0);

}  // namespace aerie::ops::composed
