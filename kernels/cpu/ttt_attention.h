// Training-time-test attention on raw bf16 pointers: the pieces that run inside a parallel loop.
// The softmax of a tile of 16 query rows is exact and in one pass over a strip of scores [16,
// keys]; nothing of size [T,T] exists. Base keys and the row's own step keys share one softmax, so
// the merge by log-sum-exp costs nothing.
//
// Keys and queries of a document are padded to 32 in the packed copies, so that no tile crosses a
// document.
#pragma once
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {

/// One packed document: `keys` base rows from `first`, `queries` rows of q from `begin`; where they
/// go in the padded copies.
struct AttentionDocument {
  int64_t first, keys, key_at;
  int64_t begin, queries, query_at;
};

/// Raw view of an AttentionInputs; all tensors contiguous, d a multiple of 32.
struct AttentionView {
  const bf16 *q, *k, *v;                        ///< [R,H,D], [N,G,D], [N,G,D]
  const int64_t* row;                           ///< [R] base row of each query
  const bf16 *const *k_steps, *const *v_steps;  ///< `steps` pointers to [R,G,D]
  int64_t steps, heads, kv_heads, d;
  int64_t window;  ///< latest base keys that a query sees; the longest document's: all
  int64_t padded_keys, padded_queries;  ///< lengths of the packed copies
  float scale;
};

/// Copies as the B operand of the products. "turned": 16 rows of the source are the 16 outputs, k
/// runs over d; "paired": the d are the outputs, k runs over 32 rows. Per KV head (keys) or query
/// head (queries), [heads][padded * d].
struct AttentionPacks {
  bf16 *k_turned = nullptr, *v_turned = nullptr, *k_paired = nullptr, *v_paired = nullptr;
  bf16 *q_turned = nullptr, *d_out_turned = nullptr, *q_paired = nullptr, *d_out_paired = nullptr;
  float *lse = nullptr, *delta = nullptr;  ///< [H][padded_queries]
  int32_t* position = nullptr;             ///< [padded_queries] base row, -1 in the padding
};

struct AttentionForward {
  bf16* out;   ///< [R,H,D]
  float* lse;  ///< [R,H]
};

struct AttentionBackward {
  const bf16 *out, *d_out;  ///< [R,H,D]
  const float* lse;         ///< [R,H]
  bf16 *dq, *dk, *dv;
  bf16 *const *dk_steps, *const *dv_steps;
};

constexpr int64_t kAttentionChunk = 32;     ///< rows of a packing task
constexpr int64_t kAttentionTile = 16;      ///< rows of a computing task
constexpr int64_t kMaxAttentionSteps = 32;  ///< earlier unroll steps

/// The kernels of one instruction set. A computing task works in attention_scratch() f32 at `work`.
struct AttentionKernels {
  /// Packs key rows [chunk, chunk + 32) of a document for one KV head; copies that are null are
  /// left out.
  void (*pack_keys)(const AttentionView& in, const AttentionPacks& packs,
                    const AttentionDocument& document, int64_t chunk, int64_t kv_head);
  /// Packs 32 queries and their output gradients for one query head, with lse and delta = <out,
  /// d_out>.
  void (*pack_queries)(const AttentionView& in, const AttentionPacks& packs,
                       const AttentionBackward& io, const AttentionDocument& document,
                       int64_t chunk, int64_t head);
  /// Queries [tile, tile + 16) of a document for all query heads of one KV head.
  void (*forward)(const AttentionView& in, const AttentionPacks& packs, const AttentionForward& io,
                  const AttentionDocument& document, int64_t tile, int64_t kv_head, float* work);
  /// The same queries: dq and the gradients of their step keys and values.
  void (*backward_queries)(const AttentionView& in, const AttentionPacks& packs,
                           const AttentionBackward& io, const AttentionDocument& document,
                           int64_t tile, int64_t kv_head, float* work);
  /// Base keys [tile, tile + 16): dk and dv, summed over the queries in order.
  void (*backward_keys)(const AttentionView& in, const AttentionPacks& packs,
                        const AttentionBackward& io, const AttentionDocument& document,
                        int64_t tile, int64_t kv_head, float* work);
};

extern const AttentionKernels kAttentionAvx512, kAttentionAmx;

/// f32 of work memory that a tile of a document with this many padded keys (or queries) needs.
inline int64_t attention_scratch(int64_t padded, int64_t d, int64_t steps) {
  const int64_t strip = 16 * (padded + 32);  // f32 scores; half of it holds the bf16 weights
  return 3 * strip + 16 * d * (4 + 2 * steps) + 64;
}

}  // namespace aerie::cpu
