// Attention of query rows to a bf16 cache in pages of 16 tokens; raw pointers, no torch.
//
// Order inside a page, for each KV head, with the head size padded to `padded` = a multiple of 32
// by zeros:
//   keys   [padded/2][16 tokens][2]: operand tiles of Q K^T
//   values [8 pairs of tokens][padded][2]: halves of the operand tiles of P V
//
// Softmax runs over blocks of kBlockTokens tokens that start at multiples of kBlockTokens of the
// sequence, whatever the chunk is: a row's result is the same bit for bit whether it is decoded
// alone, verified or part of a prompt chunk.
#pragma once
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {

constexpr int64_t kPageTokens = 16, kBlockTokens = 128;

inline int64_t padded_head(int64_t head_dim) { return (head_dim + 31) / 32 * 32; }

/// One token's key and value [head_dim] of one head, into and out of a page at `offset` (0..15).
void write_key(bf16* page, int64_t offset, const bf16* key, int64_t head_dim);
void read_key(bf16* key, const bf16* page, int64_t offset, int64_t head_dim);
void write_value(bf16* page, int64_t offset, const bf16* value, int64_t head_dim);
void read_value(bf16* value, const bf16* page, int64_t offset, int64_t head_dim);

/// The rows of one chunk and the cache that they see.
struct PagedChunk {
  const bf16* q = nullptr;  ///< [rows,heads,head_dim], rows `q_stride` elements apart
  bf16* out = nullptr;      ///< [rows,heads,head_dim], contiguous
  int64_t q_stride = 0, rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  const bf16 *k = nullptr, *v = nullptr;  ///< the layer's pages: [pages, kv_heads, 16 * padded]
  const int32_t* pages = nullptr;         ///< of this chunk, in order
  int64_t kv_len = 0;                     ///< tokens that the last row sees
  int64_t window = 0;                     ///< latest tokens that a row sees; 0: all
  /// Row attends row, rows `tree_stride` apart; null: causal. A row of a tree gives the same bits
  /// as its ancestors and itself would as a chain.
  const bool* tree = nullptr;
  int64_t tree_stride = 0;
  float scale = 1;
};

/// A task of attend: (row, query head) pairs of one KV head that share what is laid out of each
/// block. Pair i is row i / group, query head kv_head * group + i % group, with group = heads /
/// kv_heads. How a chunk is cut into parts changes no bit.
struct AttentionPart {
  int64_t kv_head = 0, first = 0, count = 0;
};

/// In the caller's thread.
void attend_portable(const PagedChunk& chunk, const AttentionPart& part);
void attend_avx2(const PagedChunk& chunk, const AttentionPart& part);
void attend_avx512(const PagedChunk& chunk, const AttentionPart& part);
void attend_amx(const PagedChunk& chunk, const AttentionPart& part);

}  // namespace aerie::cpu
