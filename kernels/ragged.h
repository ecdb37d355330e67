// The ragged batch contract: S chunks of sequences packed into N rows, and the paged cache their
// keys and values go to.
#pragma once
#include <torch/types.h>

#include <vector>

namespace aerie {

using at::Tensor;

/// Letters as everywhere: N rows, S chunks, P pages of a chunk, M rows of the longest chunk.
struct RaggedLayout {
  Tensor q_start;  ///< [S+1] i32: rows of chunk s are [q_start[s], q_start[s+1])
  Tensor kv_len;   ///< [S] i32: tokens visible to the chunk's last row once the chunk is appended
  Tensor pages;    ///< [S,P] i32 page ids in order; undefined: no cache, a chunk sees only itself
  Tensor slots;    ///< [N] i64: page * kPageSize + offset where each row's K and V go; undefined
                   ///< without cache
  Tensor tree;  ///< [S,M,M] bool, row attends row within the chunk; undefined: causal in row order
  int64_t max_q = 0, max_kv = 0;  ///< longest chunk, longest visible context
};

/// Keys and values of all sequences and layers. The order of elements inside a page belongs to the
/// kernels of the device; only kv_append_, kv_move_ and ragged_attention look inside.
struct KvPool {
  static constexpr int64_t kPageSize = 16;  ///< tokens a page
  std::vector<Tensor> k, v;  ///< per layer [pages, G, kPageSize * D], D perhaps padded
  int64_t pages = 0, kv_heads = 0, head_dim = 0;
};

}  // namespace aerie
