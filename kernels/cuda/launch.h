// Launchers of the CUDA kernels: raw pointers in, no torch header, so that a kernel file compiles
// in seconds. Tensors, shapes and streams are checked by the callers (ops_cuda.cpp). Every launcher
// is asynchronous on `stream` and writes only what its comment says. The arithmetic is f32 whatever
// the element type.
//
// Letters as in kernels/ops.h. "Row stride" is in elements; inside a row everything is contiguous.
#pragma once
#include <cstdint>

struct CUstream_st;

namespace aerie::cuda {

using Stream = CUstream_st*;
enum class Dtype { kFloat32, kBFloat16 };

inline constexpr int kPageSize = 16;    ///< tokens of a cache page (KvPool::kPageSize)
inline constexpr int kMaxLayers = 128;  ///< layers of one kv_move launch
inline constexpr int kMaxSteps = 16;    ///< diagonal terms of one TTT merge
inline constexpr int kMaxHeadDim = 256;

/// out = x / sqrt(mean(x^2) + eps) * weight. With `residual`: residual += x first, then the norm of
/// it.
struct RmsNorm {
  const void *x, *weight;  ///< [N,C], [C]
  void* residual;          ///< [N,C] or null
  void* out;               ///< [N,C]
  int64_t rows, width;
  float eps;
  Dtype dtype, weight_dtype;  ///< the weight is f32 or has the activations' type
};
void rms_norm(const RmsNorm& args, Stream stream);

/// grad_x, and the rows' share of grad_weight summed over `stripes` of rows: the caller adds the
/// stripes.
struct RmsNormBackward {
  const void *grad_out, *x, *weight;  ///< [N,C], [N,C], [C]
  void* grad_x;                       ///< [N,C]
  float* inverse_rms;                 ///< [N] scratch
  float* grad_weight;                 ///< [stripes,C]
  int64_t rows, width, stripes;
  float eps;
  Dtype dtype, weight_dtype;
};
void rms_norm_backward(const RmsNormBackward& args, Stream stream);

/// Half-split rotary embedding by cos, sin [max_position, D/2]. `inverse` rotates back: the
/// gradient of the forward.
struct Rope {
  const void* x;             ///< [N,heads,D], row stride x_stride
  void* out;                 ///< [N,heads,D], contiguous
  const int64_t* positions;  ///< [N]
  const float *cos, *sin;
  int64_t rows, heads, head_dim, x_stride;
  bool inverse;
  Dtype dtype;
};
void rope(const Rope& args, Stream stream);

/// gate_up [N,2*I] = [gate | up] -> out [N,I] = silu(gate) * up.
struct Swiglu {
  const void* gate_up;
  void* out;
  int64_t rows, width;  ///< width = I
  Dtype dtype;
};
void swiglu(const Swiglu& args, Stream stream);

struct SwigluBackward {
  const void *grad_out, *gate_up;  ///< [N,I], [N,2*I]
  void* grad_gate_up;              ///< [N,2*I]
  int64_t rows, width;
  Dtype dtype;
};
void swiglu_backward(const SwigluBackward& args, Stream stream);

/// Writes k, v [N,G,D] (row strides) to slots of one layer's pages [pages, G, kPageSize, D].
struct KvAppend {
  const void *k, *v;
  void *k_pages, *v_pages;
  const int64_t* slots;  ///< [N]: page * kPageSize + offset
  int64_t rows, kv_heads, head_dim, k_stride, v_stride;
  Dtype dtype;
};
void kv_append(const KvAppend& args, Stream stream);

/// Copies slots of all layers through `staging`, so that every source is read before anything is
/// overwritten.
struct KvMove {
  void *k_pages[kMaxLayers], *v_pages[kMaxLayers];
  const int64_t *from, *to;  ///< [count]
  void* staging;             ///< [layers,2,count,G,D]
  int64_t count, layers, kv_heads, head_dim;
  Dtype dtype;
};
void kv_move(const KvMove& args, Stream stream);

/// What both forms of attention share. Keys are cut at multiples of kAttentionSplit tokens of the
/// sequence, whatever the batch, and the parts joined in order: a row's result does not depend on
/// other rows, nor on how many blocks worked on it.
inline constexpr int kAttentionSplit = 512;
struct Attention {
  const void* q;         ///< [N,H,D]
  void* out;             ///< [N,H,D]
  float* lse;            ///< [N,H], or null: not wanted
  float* partial_out;    ///< [splits,N,H,D] scratch, null when splits == 1
  float* partial_stats;  ///< [splits,N,H,2] scratch: maximum, sum of exponentials; null when splits
                         ///< == 1
  int64_t rows, chunks, heads, kv_heads, head_dim;
  int64_t max_q;   ///< rows of the longest chunk
  int64_t splits;  ///< 1: a block walks all keys of its rows; else divide_up(longest context,
                   ///< kAttentionSplit)
  float scale;
  Dtype dtype;
};

/// Attention of new rows to their paged cache, themselves included (kernels/ops.h,
/// ragged_attention).
struct RaggedAttention {
  Attention common;
  const void *k_pages, *v_pages;            ///< [pages, G, kPageSize, D]
  const int32_t *q_start, *kv_len, *pages;  ///< [S+1], [S], [S,page_columns]
  const bool* tree;                         ///< [S,tree_size,tree_size], or null: causal
  int64_t page_columns, tree_size;
};
void ragged_attention(const RaggedAttention& args, Stream stream);

/// Attention of chosen rows within packed documents: row i sees base rows first[i]..last[i] (the
/// start of its document or window, and its own place). Both ascend. common.chunks is 1 and
/// common.max_q is common.rows.
struct PackedAttention {
  Attention common;
  const void *k, *v;            ///< [T,G,D]
  const int64_t *first, *last;  ///< [N]
  int64_t base_rows;            ///< T
};
void packed_attention(const PackedAttention& args, Stream stream);

/// Gradients of packed_attention, of which `forward` was the call: its q, k, v and rows, but no
/// output.
struct PackedAttentionBackward {
  PackedAttention forward;
  const void* grad_out;  ///< [N,H,D]
  const float *lse,
      *delta;  ///< [N,H]: log-sum-exp over all that the row attended to; sum of grad_out * out
  const float* grad_q_extra;       ///< [N,H,D] f32, added to grad_q, or null
  void *grad_q, *grad_k, *grad_v;  ///< [N,H,D], [T,G,D], [T,G,D]
};
void packed_attention_backward(const PackedAttentionBackward& args, Stream stream);

/// The TTT merge: base attention output and log-sum-exp, extended by one key of
/// each earlier step.
struct TttMerge {
  const void *q, *base_out;                             ///< [R,H,D]
  const float* base_lse;                                ///< [R,H]
  const void *k_steps[kMaxSteps], *v_steps[kMaxSteps];  ///< [R,G,D] each
  void* out;                                            ///< [R,H,D]
  float* lse;  ///< [R,H], the base block and the steps together
  int64_t rows, heads, kv_heads, head_dim, steps;
  float scale;
  Dtype dtype;
};
void ttt_merge(const TttMerge& args, Stream stream);

/// Gradients of the steps' terms. The base block's own come from the caller, given `delta` and the
/// merged lse.
struct TttMergeBackward {
  const void *grad_out, *out, *q;  ///< [R,H,D]
  const float* lse;                ///< [R,H], merged
  const void *k_steps[kMaxSteps], *v_steps[kMaxSteps];
  void *grad_k_steps[kMaxSteps], *grad_v_steps[kMaxSteps];  ///< [R,G,D] each
  float* grad_q;                                            ///< [R,H,D] f32: the steps' share
  float* delta;                                             ///< [R,H]: sum over D of grad_out * out
  int64_t rows, heads, kv_heads, head_dim, steps;
  float scale;
  Dtype dtype;
};
void ttt_merge_backward(const TttMergeBackward& args, Stream stream);

/// Of every row of logits [R,V]: the first index of the maximum, and log(sum(exp)).
struct RowStats {
  const void* logits;
  int64_t* argmax;  ///< [R]
  float* lse;       ///< [R]
  int64_t rows, width;
  Dtype dtype;
};
void row_stats(const RowStats& args, Stream stream);

/// Soft cross-entropy of student rows against teacher rows over the draft vocabulary
/// p = softmax(teacher), q = softmax(student):
///   loss = KL(p || q), gradient row_weight * (q - p), both 0 where the label is outside the draft
///   vocabulary; alpha = sum min(exp(teacher - teacher_lse), q); hit = argmax q is the label.
struct SoftCrossEntropy {
  void* student;               ///< [R,W] logits; the gradient afterwards where write_gradient
  const void* teacher;         ///< [T,W] logits
  const int64_t* teacher_row;  ///< [R] into the T rows
  const int64_t*
      label;  ///< [T]: draft id of the teacher's argmax over the full vocabulary, -1 outside
  const float* teacher_lse;  ///< [T] over the full vocabulary
  const float* row_weight;   ///< [R]
  float *loss, *alpha;       ///< [R]
  bool* hit;                 ///< [R]
  int64_t rows, width;
  bool write_gradient;
  Dtype dtype, teacher_dtype;  ///< the teacher is f32 or has the student's type
};
void soft_cross_entropy(const SoftCrossEntropy& args, Stream stream);

}  // namespace aerie::cuda
