// Keys in rows of packed documents. All rows are one chunk, and positions are base rows: a tile of
// queries may straddle documents, each of its rows sees its own.
#pragma once
#include "kernels/cuda/attention.cuh"

namespace aerie::cuda {

struct PackedKeys {
  PackedAttention args;

  __device__ Chunk chunk(int64_t) const {
    return {0, 0, int(args.common.rows), int(args.base_rows)};
  }
  __device__ int64_t offset(const Chunk&, int64_t group, int position) const {
    return (position * args.common.kv_heads + group) * args.common.head_dim;
  }
  __device__ int first_visible(const Chunk&, int row) const { return int(args.first[row]); }
  __device__ int last_visible(const Chunk&, int row) const { return int(args.last[row]); }
  __device__ bool visible(const Chunk&, int row, int position) const {
    return args.first[row] <= position && position <= args.last[row];
  }
  __device__ const void* k() const { return args.k; }
  __device__ const void* v() const { return args.v; }
};

}  // namespace aerie::cuda
