// Backward of packed attention (flash attention's, by recomputation). With scores s, merged
// log-sum-exp L and delta = grad_out . out:
//   p = exp(s - L),  ds = p (grad_out . v - delta),  grad_q = scale ds k,  grad_k = scale ds^T q,
//   grad_v = p^T grad_out.
// One kernel walks the keys of a tile of queries, the other the queries of a tile of keys: no
// atomics, so that the gradients are the same every time.
#include "kernels/cuda/packed_keys.cuh"

namespace aerie::cuda {
namespace {

constexpr int kKeysOfWarp = kKeys / kWarpsOfBlock;

/// Shared memory beyond the forward's: the tile's output gradients, and what the warps tell each
/// other about the tile.
template <typename T>
struct BackwardShared : Shared<T> {
  float* grad_out;  // [kQueries,D]
  float *p, *ds;    // [kQueries,kKeys]

  __device__ explicit BackwardShared(int d) : Shared<T>(d) {
    grad_out = this->rest();
    p = grad_out + kQueries * d;
    ds = p + kQueries * kKeys;
  }
  static int64_t bytes(int64_t d) { return Shared<T>::bytes(d) + kQueries * (d + 2 * kKeys) * 4; }
};

/// p and ds of this lane's key and the warp's queries.
template <typename T>
__device__ void score_gradients(const BackwardShared<T>& shared,
                                const PackedAttentionBackward& args, const Tile& tile, int position,
                                float (&p)[kQueriesOfWarp], float (&ds)[kQueriesOfWarp]) {
  const PackedKeys keys{args.forward};
  const int lane = threadIdx.x % kWarp, first_query = threadIdx.x / kWarp * kQueriesOfWarp;
  float scores[kQueriesOfWarp] = {}, grads[kQueriesOfWarp] = {};
  dot_keys(shared.q, shared.k, shared.head_dim, shared.stride, scores);
  dot_keys(shared.grad_out, shared.v, shared.head_dim, shared.stride, grads);
  for (int u = 0; u < kQueriesOfWarp; ++u) {
    const int query = first_query + u;
    p[u] = ds[u] = 0.f;
    if (query >= tile.count || !keys.visible(tile.chunk, tile.row(query), position + lane))
      continue;
    const int64_t cell = tile.cell(query, args.forward.common.heads);
    p[u] = expf(scores[u] - args.lse[cell]);
    ds[u] = p[u] * (grads[u] - args.delta[cell]);
  }
}

template <typename T, int kPairs>
__device__ void write_grad_q(const PackedAttentionBackward& args, int64_t cell,
                             const float (&sums)[2 * kPairs]) {
  const Attention& common = args.forward.common;
  const int head_dim = int(common.head_dim);
  float total[2 * kPairs] = {};
  if (args.grad_q_extra != nullptr)
    load_pairs<kPairs>(args.grad_q_extra + cell * head_dim, head_dim, total);
  for (int i = 0; i < 2 * kPairs; ++i) total[i] += common.scale * sums[i];
  store_pairs<kPairs>(static_cast<T*>(args.grad_q) + cell * head_dim, head_dim, total, 1.f);
}

/// blockIdx: tile of queries, KV head.
template <typename T, int kPairs>
__global__ void __launch_bounds__(kThreads) grad_q_kernel(PackedAttentionBackward args) {
  const Attention& common = args.forward.common;
  const PackedKeys keys{args.forward};
  const Tile tile = tile_of_block(keys, common);
  const int first_query = threadIdx.x / kWarp * kQueriesOfWarp;
  const BackwardShared<T> shared(int(common.head_dim));
  load_rows<T>(shared.q, common.q, common.scale, tile, common);
  load_rows<T>(shared.grad_out, args.grad_out, 1.f, tile, common);

  float sums[kQueriesOfWarp][2 * kPairs] = {};
  const int first = keys.first_visible(tile.chunk, tile.row(0)) / kKeys * kKeys;
  const int last = keys.last_visible(tile.chunk, tile.row(tile.count - 1));
  for (int position = first; position <= last; position += kKeys) {
    __syncthreads();  // the previous tile has been used
    load_keys(shared, keys, tile.chunk, tile.group, position);
    __syncthreads();
    float p[kQueriesOfWarp], ds[kQueriesOfWarp];
    score_gradients(shared, args, tile, position, p, ds);
    share_with_warp(shared.exchange, ds);
    for (int key = 0; key < kKeys; ++key) {
      float k[2 * kPairs];
      load_pairs<kPairs>(shared.k + key * shared.stride, shared.head_dim, k);
      const auto factor = shared_by_lane(shared.exchange, key);
      for (int u = 0; u < kQueriesOfWarp; ++u) {
        for (int i = 0; i < 2 * kPairs; ++i) sums[u][i] += factor.at[u] * k[i];
      }
    }
  }
  for (int u = 0; u < kQueriesOfWarp; ++u) {
    if (first_query + u < tile.count)
      write_grad_q<T, kPairs>(args, tile.cell(first_query + u, common.heads), sums[u]);
  }
}

/// The first of `count` ascending values that is at least `bound`.
__device__ int lower_bound(const int64_t* values, int count, int64_t bound) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (values[middle] < bound) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/// Adds a tile of queries, whose p and ds are in shared memory, to the gradients of the warp's
/// keys.
template <typename T, int kPairs>
__device__ void add_queries(const BackwardShared<T>& shared, int count,
                            float (&grad_k)[kKeysOfWarp][2 * kPairs],
                            float (&grad_v)[kKeysOfWarp][2 * kPairs]) {
  const int first_key = threadIdx.x / kWarp * kKeysOfWarp;
  for (int query = 0; query < count; ++query) {
    float q[2 * kPairs], grad_out[2 * kPairs];
    load_pairs<kPairs>(shared.q + query * shared.head_dim, shared.head_dim, q);  // holds scale * q
    load_pairs<kPairs>(shared.grad_out + query * shared.head_dim, shared.head_dim, grad_out);
    for (int j = 0; j < kKeysOfWarp; ++j) {
      const float p = shared.p[query * kKeys + first_key + j],
                  ds = shared.ds[query * kKeys + first_key + j];
      for (int i = 0; i < 2 * kPairs; ++i) {
        grad_k[j][i] += ds * q[i];
        grad_v[j][i] += p * grad_out[i];
      }
    }
  }
}

/// blockIdx: tile of keys, KV head.
template <typename T, int kPairs>
__global__ void __launch_bounds__(kThreads) grad_kv_kernel(PackedAttentionBackward args) {
  const Attention& common = args.forward.common;
  const PackedKeys keys{args.forward};
  const int position = int(blockIdx.x) * kKeys, lane = threadIdx.x % kWarp,
            warp = threadIdx.x / kWarp;
  const int group_heads = int(common.heads / common.kv_heads);
  const BackwardShared<T> shared(int(common.head_dim));
  Tile tile{keys.chunk(0), blockIdx.y, group_heads, 0, 0};
  load_keys(shared, keys, tile.chunk, tile.group, position);

  // Rows that may see a key of the tile: they end at it or later, and their document begins before
  // its end.
  const int begin = lower_bound(args.forward.last, tile.chunk.rows, position) * group_heads;
  const int end = lower_bound(args.forward.first, tile.chunk.rows, position + kKeys) * group_heads;
  float grad_k[kKeysOfWarp][2 * kPairs] = {}, grad_v[kKeysOfWarp][2 * kPairs] = {};
  for (tile.first = begin; tile.first < end; tile.first += kQueries) {
    tile.count = end - tile.first < kQueries ? end - tile.first : kQueries;
    __syncthreads();  // the previous tile has been used
    load_rows<T>(shared.q, common.q, common.scale, tile, common);
    load_rows<T>(shared.grad_out, args.grad_out, 1.f, tile, common);
    __syncthreads();
    float p[kQueriesOfWarp], ds[kQueriesOfWarp];
    score_gradients(shared, args, tile, position, p, ds);
    for (int u = 0; u < kQueriesOfWarp; ++u) {
      shared.p[(warp * kQueriesOfWarp + u) * kKeys + lane] = p[u];
      shared.ds[(warp * kQueriesOfWarp + u) * kKeys + lane] = ds[u];
    }
    __syncthreads();
    add_queries<T, kPairs>(shared, tile.count, grad_k, grad_v);
  }
  for (int j = 0; j < kKeysOfWarp; ++j) {
    const int at = position + warp * kKeysOfWarp + j;
    if (at >= tile.chunk.kv_len) continue;
    const int64_t to = keys.offset(tile.chunk, tile.group, at);
    store_pairs<kPairs>(static_cast<T*>(args.grad_k) + to, shared.head_dim, grad_k[j], 1.f);
    store_pairs<kPairs>(static_cast<T*>(args.grad_v) + to, shared.head_dim, grad_v[j], 1.f);
  }
}

}  // namespace

void packed_attention_backward(const PackedAttentionBackward& args, Stream stream) {
  const Attention& common = args.forward.common;
  with_pairs(common.dtype, common.head_dim, [&](auto element, auto pairs) {
    using T = decltype(element);
    constexpr int kPairs = decltype(pairs)::value;
    Grid grid;
    grid.y = common.kv_heads;
    grid.threads = kThreads;
    grid.shared_bytes = BackwardShared<T>::bytes(common.head_dim);
    grid.x = divide_up(common.rows * (common.heads / common.kv_heads), kQueries);
    launch(grid, stream, grad_q_kernel<T, kPairs>, args);
    grid.x = divide_up(args.forward.base_rows, kKeys);
    launch(grid, stream, grad_kv_kernel<T, kPairs>, args);
  });
}

}  // namespace aerie::cuda
