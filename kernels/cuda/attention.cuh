// Attention by tiles of keys with a running softmax (flash attention; decode, verification and
// chunks in one path).
//
// A block has 16 queries of one KV head (rows of a chunk times the heads that share the KV head)
// and walks tiles of 32 keys: first a lane is a key (scores), then a lane is a slice of the head
// (weighted values). Each of the four warps keeps four queries' softmax and output in registers.
//
// Where keys lie and who sees them is the business of a `Keys` type:
//   args.common                          the Attention
//   chunk(s)                             the rows of grid chunk s
//   offset(chunk, group, position)       elements before the key and the value of a position
//   first_visible, last_visible(chunk, row)   bounds of what a row sees; both ascend with the row
//   visible(chunk, row, position)        whether it sees a position within these bounds
#pragma once
#include "kernels/cuda/device.cuh"

namespace aerie::cuda {

inline constexpr int kWarpsOfBlock = 4;
inline constexpr int kQueriesOfWarp = 4;
inline constexpr int kQueries = kWarpsOfBlock * kQueriesOfWarp;
inline constexpr int kKeys = kWarp;  // of a tile
inline constexpr int kThreads = kWarpsOfBlock * kWarp;
static_assert(kAttentionSplit % kKeys == 0, "tiles do not straddle splits");

/// Rows of one sequence or document. Positions count its keys from 0.
struct Chunk {
  int64_t index, first_row;
  int rows, kv_len;
};

/// One query's softmax so far: `out` is the weighted sum of values relative to `maximum`, spread
/// over the lanes.
template <int kPairs>
struct Running {
  float maximum = -INFINITY, sum = 0.f;
  float out[2 * kPairs] = {};

  /// Explicit fmaf: a block that walks all keys and the kernel that joins parts must round alike.
  __device__ __forceinline__ void join(const Running& part) {
    if (part.sum == 0.f) return;
    const float larger = fmaxf(maximum, part.maximum);
    const float keep = expf(maximum - larger), add = expf(part.maximum - larger);
    for (int i = 0; i < 2 * kPairs; ++i) out[i] = fmaf(add, part.out[i], keep * out[i]);
    sum = fmaf(add, part.sum, keep * sum);
    maximum = larger;
  }
};

/// Element index of pair i of this lane.
__device__ __forceinline__ int pair_element(int i) {
  return 2 * int(threadIdx.x % kWarp + kWarp * i);
}

/// The queries of a block: `first` counts (row, head of the group) pairs of the chunk.
struct Tile {
  Chunk chunk;
  int64_t group, group_heads;
  int first, count;

  __device__ int row(int query) const { return (first + query) / int(group_heads); }
  /// Index into [N,H].
  __device__ int64_t cell(int query, int64_t heads) const {
    return (chunk.first_row + row(query)) * heads + group * group_heads +
           (first + query) % group_heads;
  }
};

template <typename Keys>
__device__ Tile tile_of_block(const Keys& keys, const Attention& args) {
  const int64_t group_heads = args.heads / args.kv_heads,
                tiles = divide_up(args.max_q * group_heads, kQueries);
  Tile tile{keys.chunk(blockIdx.x / tiles), blockIdx.y, group_heads,
            int(blockIdx.x % tiles) * kQueries, 0};
  const int left = tile.chunk.rows * int(group_heads) - tile.first;
  tile.count = left < kQueries ? left : kQueries;
  return tile;
}

/// Shared memory of a block. Rows of keys are padded by 16 bytes, so that lanes that read the same
/// element of 32 rows meet different banks.
template <typename T>
struct Shared {
  static constexpr int kPad = 16 / sizeof(T);
  float* q;         // [kQueries,D]
  float* exchange;  // [kThreads,kQueriesOfWarp]
  T *k, *v;         // [kKeys,stride]
  int head_dim, stride;

  __device__ explicit Shared(int d) : head_dim(d), stride(d + kPad) {
    q = dynamic_shared<float>();
    exchange = q + kQueries * head_dim;
    k = reinterpret_cast<T*>(exchange + kThreads * kQueriesOfWarp);
    v = k + kKeys * stride;
  }
  /// Behind q, k and v.
  __device__ float* rest() const { return reinterpret_cast<float*>(v + kKeys * stride); }
  static int64_t bytes(int64_t d) {
    return (kQueries * d + kThreads * kQueriesOfWarp) * 4 +
           2 * kKeys * (d + kPad) * int64_t(sizeof(T));
  }
};

/// The tile's rows of `from` [N,H,D], times `factor`, to shared memory [kQueries,D]; zeros behind
/// the last.
template <typename T>
__device__ void load_rows(float* to, const void* from, float factor, const Tile& tile,
                          const Attention& args) {
  constexpr int kPack = 16 / sizeof(T);
  const int head_dim = int(args.head_dim), packs = head_dim / kPack;
  for (int item = threadIdx.x; item < kQueries * packs; item += kThreads) {
    const int query = item / packs, d = item % packs * kPack;
    Pack<T, kPack> values{};
    if (query < tile.count) {
      values =
          load<kPack>(static_cast<const T*>(from) + tile.cell(query, args.heads) * head_dim + d);
    }
    for (int i = 0; i < kPack; ++i) to[query * head_dim + d + i] = to_float(values.at[i]) * factor;
  }
}

/// Keys and values at `position` and after it; zeros behind the sequence's end.
template <typename T, typename Keys>
__device__ void load_keys(const Shared<T>& shared, const Keys& keys, const Chunk& chunk,
                          int64_t group, int position) {
  constexpr int kPack = 16 / sizeof(T);
  const int packs = shared.head_dim / kPack;
  for (int item = threadIdx.x; item < kKeys * packs; item += kThreads) {
    const int key = item / packs, d = item % packs * kPack;
    Pack<T, kPack> k{}, v{};
    if (position + key < chunk.kv_len) {
      const int64_t from = keys.offset(chunk, group, position + key) + d;
      k = load<kPack>(static_cast<const T*>(keys.k()) + from);
      v = load<kPack>(static_cast<const T*>(keys.v()) + from);
    }
    store(shared.k + key * shared.stride + d, k);
    store(shared.v + key * shared.stride + d, v);
  }
}

/// The dot products of this lane's row of `keys` with the warp's rows of `queries`.
template <typename T>
__device__ void dot_keys(const float* queries, const T* keys, int head_dim, int stride,
                         float (&dots)[kQueriesOfWarp]) {
  constexpr int kPack = 16 / sizeof(T);
  const T* key = keys + threadIdx.x % kWarp * stride;
  const float* first = queries + threadIdx.x / kWarp * kQueriesOfWarp * head_dim;
  for (int d = 0; d < head_dim; d += kPack) {
    const auto k = load<kPack>(key + d);
    for (int u = 0; u < kQueriesOfWarp; ++u) {
      const auto q = load<kPack>(first + u * head_dim + d);
      for (int i = 0; i < kPack; ++i) dots[u] += q.at[i] * to_float(k.at[i]);
    }
  }
}

/// This lane's pairs of a row in shared memory.
template <int kPairs, typename T>
__device__ __forceinline__ void load_pairs(const T* row, int head_dim,
                                           float (&values)[2 * kPairs]) {
  for (int i = 0; i < kPairs; ++i) {
    Pack<T, 2> pair{};
    if (pair_element(i) < head_dim) pair = load<2>(row + pair_element(i));
    values[2 * i] = to_float(pair.at[0]);
    values[2 * i + 1] = to_float(pair.at[1]);
  }
}

template <int kPairs, typename T>
__device__ __forceinline__ void store_pairs(T* row, int head_dim, const float (&values)[2 * kPairs],
                                            float factor) {
  for (int i = 0; i < kPairs; ++i) {
    if (pair_element(i) >= head_dim) continue;
    store(row + pair_element(i), Pack<T, 2>{{from_float<T>(values[2 * i] * factor),
                                             from_float<T>(values[2 * i + 1] * factor)}});
  }
}

/// A value a query of the warp, from every lane to all lanes: one 16-byte read by all where
/// shuffles would take four.
__device__ __forceinline__ void share_with_warp(float* exchange,
                                                const float (&values)[kQueriesOfWarp]) {
  static_assert(kQueriesOfWarp == 4);
  store(exchange + threadIdx.x * kQueriesOfWarp,
        Pack<float, 4>{{values[0], values[1], values[2], values[3]}});
  __syncwarp();
}
__device__ __forceinline__ Pack<float, kQueriesOfWarp> shared_by_lane(const float* exchange,
                                                                      int lane) {
  return load<kQueriesOfWarp>(exchange + (threadIdx.x / kWarp * kWarp + lane) * kQueriesOfWarp);
}

/// Adds the tile in shared memory to the warp's queries.
template <typename T, int kPairs, typename Keys>
__device__ void attend_keys(const Shared<T>& shared, const Keys& keys, const Tile& tile,
                            int position, Running<kPairs> (&parts)[kQueriesOfWarp]) {
  const int lane = threadIdx.x % kWarp, first_query = threadIdx.x / kWarp * kQueriesOfWarp;
  float weights[kQueriesOfWarp] = {};
  dot_keys(shared.q, shared.k, shared.head_dim, shared.stride, weights);
  for (int u = 0; u < kQueriesOfWarp; ++u) {
    const int query = first_query + u;
    const bool seen =
        query < tile.count && keys.visible(tile.chunk, tile.row(query), position + lane);
    const float score = seen ? weights[u] : -INFINITY;
    const float larger = fmaxf(parts[u].maximum, warp_reduce<Max>(score));
    weights[u] = seen ? expf(score - larger) : 0.f;
    if (larger == -INFINITY) continue;  // the same in all lanes
    const float keep = expf(parts[u].maximum - larger);
    parts[u].maximum = larger;
    parts[u].sum = parts[u].sum * keep + warp_reduce<Sum>(weights[u]);
    for (int i = 0; i < 2 * kPairs; ++i) parts[u].out[i] *= keep;
  }
  share_with_warp(shared.exchange, weights);
  for (int key = 0; key < kKeys; ++key) {
    float values[2 * kPairs];
    load_pairs<kPairs>(shared.v + key * shared.stride, shared.head_dim, values);
    const auto weight = shared_by_lane(shared.exchange, key);
    for (int u = 0; u < kQueriesOfWarp; ++u) {
      for (int i = 0; i < 2 * kPairs; ++i) parts[u].out[i] += weight.at[u] * values[i];
    }
  }
}

/// The result of one (row, head) cell.
template <typename T, int kPairs>
__device__ void write_cell(const Attention& args, int64_t cell, const Running<kPairs>& total) {
  const float factor = total.sum == 0.f ? 0.f : 1.f / total.sum;  // a row that sees nothing is zero
  store_pairs<kPairs>(static_cast<T*>(args.out) + cell * args.head_dim, int(args.head_dim),
                      total.out, factor);
  if (args.lse != nullptr && threadIdx.x % kWarp == 0)
    args.lse[cell] = total.maximum + logf(total.sum);
}

template <int kPairs>
__device__ void write_part(const Attention& args, int64_t cell, int split,
                           const Running<kPairs>& part) {
  const int64_t at = split * args.rows * args.heads + cell;
  store_pairs<kPairs>(args.partial_out + at * args.head_dim, int(args.head_dim), part.out, 1.f);
  if (threadIdx.x % kWarp == 0) {
    args.partial_stats[2 * at] = part.maximum;
    args.partial_stats[2 * at + 1] = part.sum;
  }
}

/// Walks the keys of one split that rows first..last can see.
template <typename T, int kPairs, typename Keys>
__device__ void attend_split(const Shared<T>& shared, const Keys& keys, const Tile& tile, int split,
                             int first, int last, Running<kPairs> (&parts)[kQueriesOfWarp]) {
  const int split_begin = split * kAttentionSplit, split_end = split_begin + kAttentionSplit;
  const int begin = first > split_begin ? first / kKeys * kKeys : split_begin;
  const int end = last < split_end ? last + 1 : split_end;
  for (int position = begin; position < end; position += kKeys) {
    __syncthreads();  // the previous tile has been used
    load_keys(shared, keys, tile.chunk, tile.group, position);
    __syncthreads();
    attend_keys<T, kPairs>(shared, keys, tile, position, parts);
  }
}

/// blockIdx: chunk and tile of queries, KV head, split (args.splits == 1: the block walks all of
/// them).
template <typename T, int kPairs, typename Keys>
__global__ void __launch_bounds__(kThreads) attention_kernel(Keys keys) {
  const Attention& args = keys.args.common;
  const Tile tile = tile_of_block(keys, args);
  if (tile.count <= 0) return;  // the whole block
  const int first_query = threadIdx.x / kWarp * kQueriesOfWarp;
  const int first = keys.first_visible(tile.chunk, tile.row(0));
  const int last = keys.last_visible(tile.chunk, tile.row(tile.count - 1));
  const Shared<T> shared(int(args.head_dim));
  load_rows<T>(shared.q, args.q, args.scale, tile, args);

  const bool alone = args.splits == 1;
  Running<kPairs> totals[kQueriesOfWarp];
  const int first_split = alone ? first / kAttentionSplit : int(blockIdx.z);
  const int last_split = alone ? last / kAttentionSplit : int(blockIdx.z);
  for (int split = first_split; split <= last_split; ++split) {
    Running<kPairs> parts[kQueriesOfWarp];
    attend_split<T, kPairs>(shared, keys, tile, split, first, last, parts);
    for (int u = 0; u < kQueriesOfWarp; ++u) {
      if (alone) {
        totals[u].join(parts[u]);
      } else if (first_query + u < tile.count) {
        write_part(args, tile.cell(first_query + u, args.heads), split, parts[u]);
      }
    }
  }
  for (int u = 0; alone && u < kQueriesOfWarp; ++u) {
    if (first_query + u < tile.count) {
      write_cell<T>(args, tile.cell(first_query + u, args.heads), totals[u]);
    }
  }
}

/// Joins the splits of a (row, head) cell; one warp each.
template <typename T, int kPairs>
__global__ void join_splits_kernel(Attention args) {
  const int64_t cell = int64_t(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
  if (cell >= args.rows * args.heads) return;
  Running<kPairs> total;
  for (int64_t split = 0; split < args.splits; ++split) {
    const int64_t at = split * args.rows * args.heads + cell;
    Running<kPairs> part;
    part.maximum = args.partial_stats[2 * at];
    part.sum = args.partial_stats[2 * at + 1];
    load_pairs<kPairs>(args.partial_out + at * args.head_dim, int(args.head_dim), part.out);
    total.join(part);
  }
  write_cell<T>(args, cell, total);
}

template <typename Keys>
void attend(const Keys& keys, Stream stream) {
  const Attention& args = keys.args.common;
  with_pairs(args.dtype, args.head_dim, [&](auto element, auto pairs) {
    using T = decltype(element);
    constexpr int kPairs = decltype(pairs)::value;
    Grid grid;
    grid.x = args.chunks * divide_up(args.max_q * (args.heads / args.kv_heads), kQueries);
    grid.y = args.kv_heads;
    grid.z = args.splits;
    grid.threads = kThreads;
    grid.shared_bytes = Shared<T>::bytes(args.head_dim);
    launch(grid, stream, attention_kernel<T, kPairs, Keys>, keys);
    if (args.splits == 1) return;
    Grid join;
    join.x = divide_up(args.rows * args.heads, kWarpsOfBlock);
    join.threads = kThreads;
    launch(join, stream, join_splits_kernel<T, kPairs>, args);
  });
}

}  // namespace aerie::cuda
