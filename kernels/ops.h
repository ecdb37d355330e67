// Every operation of the networks, and the only kernel header that callers see. CPU and CUDA give
// the same results; the CPU side is the definition. Activations are bf16 or f32 and keep their
// type; softmax, norms and losses compute in f32.
//
// Letters: N rows, S chunks or documents, H/G query/KV heads, D head size, C hidden size, O/I
// out/in features, L layers, V/W target/draft vocabulary, R selected rows, K unroll depth.
//
// Ops marked [grad] are differentiable: they record themselves for autograd where an input requires
// a gradient. A row's result never depends on the other rows of the call, bit for bit (linear,
// norms, attention on the CPU in bf16).
#pragma once
#include "kernels/losses.h"
#include "kernels/ragged.h"

namespace aerie::ops {

/// A linear layer's weight [O,I], in the form that this device's kernels read.
struct LinearWeight {
  Tensor weight;            ///< [O,I] as given; undefined once packed and not needed any more
  Tensor packed;            ///< CPU bf16: tiles for y = x W^T; undefined elsewhere
  Tensor packed_transpose;  ///< CPU bf16: tiles for dx = dy W; only of trainable weights
  int64_t out_features = 0, in_features = 0;

  bool trainable() const { return weight.defined() && weight.requires_grad(); }
};

/// Prepares a frozen weight for inference. bf16 on the CPU is packed into tiles and `weight` is let
/// go.
LinearWeight pack_linear(const Tensor& weight);
/// Prepares a trainable f32 master [O,I] for one optimizer step: computes in `compute`, gradients
/// arrive in `master.grad()` in f32. Reuses the buffers of `previous`.
LinearWeight pack_trainable(const Tensor& master, at::ScalarType compute,
                            LinearWeight previous = {});

/// x [N,I], W [O,I] -> x W^T [N,O]. [grad]
Tensor linear(const Tensor& x, const LinearWeight& weight);

/// x [N,C], weight [C] -> x / sqrt(mean(x^2) + eps) * weight. [grad]
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);
/// residual += x in place, then rms_norm of it: one pass for inference. -> [N,C]
Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps);

/// gate_up [N,2*I] = [gate | up] -> silu(gate) * up [N,I]. [grad]
Tensor swiglu(const Tensor& gate_up);

/// As swiglu with the tanh form of gelu on the gate (Gemma). [N,2*I] -> [N,I]
Tensor geglu(const Tensor& gate_up);

/// A gated MLP among several.
struct Expert {
  LinearWeight gate_up, down;  ///< [2*I,C], [C,I]
};
/// Each row's sum of its experts' outputs: x [N,C], chosen [N,E] i64 into `experts`, weights [N,E]
/// f32 -> sum_e weights[n,e] * down(swiglu(gate_up(x[n]))) [N,C]. Rows are grouped by expert, so
/// that a weight is read once a call.
Tensor mixture(const Tensor& x, const Tensor& chosen, const Tensor& weights,
               const std::vector<Expert>& experts);

/// tokens [N] i64, weight [V,C] -> [N,C]. Rows of `weight` are frozen.
Tensor embedding(const Tensor& tokens, const Tensor& weight);

/// Angles of rotary embedding for every position below `max_position`: cos, sin [max_position, D/2]
/// f32.
struct RopeTable {
  Tensor cos, sin;
};
/// Inverse frequencies [D/2] (f32) come from the model's rope type; `attention_scaling` multiplies
/// cos and sin (yarn).
RopeTable make_rope_table(const Tensor& inverse_frequencies, int64_t max_position,
                          double attention_scaling = 1.0);
/// x [N,heads,D] rotated (half-split pairs, as HF Llama) by positions [N] i64. [grad]
Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table);

/// A table and the rows of it that positions of several axes select.
struct RopeRows {
  RopeTable table;
  Tensor positions;  ///< [N] i64
};
/// Multi-axis RoPE: pair j of a row takes its angle from the row's position on axis axis_of[j].
/// positions [X,N] i64, axis_of [D/2] i64 -> a table of N rows, made once for all layers. Plain
/// positions [N], equal on every axis, select from `table` itself.
RopeRows select_rope(const RopeTable& table, const Tensor& positions, const Tensor& axis_of);

/// Makes room for `pages` pages. `dtype` bf16 or f32.
KvPool make_kv_pool(int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim,
                    at::ScalarType dtype, at::Device device);
/// Writes k, v [N,G,D] of one layer to `slots` [N] i64.
void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v, const Tensor& slots);
/// Copies slots of all layers, in order: to[i] = from[i]. Sources are read before any is
/// overwritten.
void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots);
/// Attention of new rows to their sequence's cache, themselves included (append first). Decode,
/// chunked prompt, chain and tree verification in one path. A row sees the `window` latest tokens,
/// itself included (0: all). q [N,H,D] -> [N,H,D].
Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale, int64_t window = 0);

/// Causal attention within packed documents, without cache; `window` as above. q [N,H,D], k, v
/// [N,G,D], q_start [S+1] i32 -> [N,H,D].
Tensor packed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_start,
                        double scale, int64_t window = 0);

/// Attention within segments in which every row sees every row (towers of images and audio),
/// without cache. q, k, v [N,H,D], starts [S+1] i32 ascending from 0 to N, on the CPU -> [N,H,D].
Tensor segment_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts,
                         double scale);

/// Attention of one training-time-test step: row i of q sits at base row rows[i]
/// and attends (a) base keys j <= rows[i] of its document, the `window` latest of them (0: all),
/// and (b) its own key of each earlier step, k_steps[s][i]. q [R,H,D], rows [R] i64 ascending, base
/// k, v [N,G,D], q_start [S+1] i32, k_steps, v_steps: tensors [R,G,D]
/// -> [R,H,D]. [grad] for q, k, v, k_steps, v_steps.
Tensor ttt_attention(const Tensor& q, const Tensor& rows, const Tensor& k, const Tensor& v,
                     const Tensor& q_start, const std::vector<Tensor>& k_steps,
                     const std::vector<Tensor>& v_steps, double scale, int64_t window = 0);

/// The frozen side of the distillation loss.
struct Teacher {
  Tensor hidden;  ///< [T,C] last hidden states (after the final norm) of rows that label anything
  const LinearWeight* head = nullptr;  ///< [V,C] target head
  Tensor target_of;                    ///< [W] i64: target id of a draft id, ascending
  Tensor draft_of;  ///< [V] i64: draft id of a target id, -1 outside the draft vocabulary
};
/// One value a student row; all [M].
struct HeadLoss {
  Tensor loss;  ///< f32: the mixture of losses; 0 where the label is outside the draft vocabulary
  Tensor hit;   ///< bool: argmax q is the teacher's argmax over the full vocabulary
  Tensor in_vocab;  ///< bool: the teacher's argmax is in the draft vocabulary
  Tensor alpha;     ///< f32: sum_v min(p_full, q), the expected acceptance under sampling
  Tensor total;     ///< [] f32: sum of row_weight * loss. [grad] for hidden and the head's master
};
/// Divergence `mix` of the draft's head from the teacher, over all unroll steps at once, in chunks
/// of teacher rows: neither [M,W] nor [T,V] ever exists, and each teacher row's logits are computed
/// once. hidden [M,C] draft states after its final norm; teacher_row [M] i64 into Teacher.hidden;
/// row_weight [M] f32.
HeadLoss head_loss(const Tensor& hidden, const LinearWeight& head, const Teacher& teacher,
                   const Tensor& teacher_row, const Tensor& row_weight, const LossMix& mix = {});

/// Memory bandwidth of this machine in bytes/s, measured over `bytes` (a fraction of a second).
double measure_read_bandwidth(int64_t bytes = 256 << 20);

}  // namespace aerie::ops
