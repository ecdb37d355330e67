// Forward passes of the hand-written CPU kernels, on tensors. Arguments were checked by ops.cpp;
// nothing here records itself for autograd.
#pragma once
#include "kernels/cpu/gemm.h"
#include "kernels/ops.h"

namespace aerie::ops::cpu {

/// weight [O,I] f32 or bf16 -> tiles for y = x W^T (kNK) or, of the same weight, for dx = dy W
/// (kKN). Reuses `out` where it has the right size.
Tensor pack(const Tensor& weight, aerie::cpu::Source order, Tensor out = {});
/// The [O,I] bf16 weight back out of its tiles.
Tensor unpack(const Tensor& packed, int64_t out_features, int64_t in_features);

/// x [N,I] bf16, tiles of [O,I] -> [N,O] bf16
Tensor linear(const Tensor& x, const Tensor& packed, int64_t out_features);

// As in ops.h; bf16 or f32. Rows may be slices of wider ones.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps);
Tensor swiglu(const Tensor& gate_up);
Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table);

// Of a bf16 pool, whose pages are ordered as paged_attention.h says.
void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v, const Tensor& slots);
void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots);
Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale,
                        aerie::cpu::Isa isa = aerie::cpu::best_isa(), int64_t window = 0);

/// Of experts packed in bf16; x bf16, chosen and weights contiguous.
Tensor mixture(const Tensor& x, const Tensor& chosen, const Tensor& weights,
               const std::vector<Expert>& experts);

}  // namespace aerie::ops::cpu
