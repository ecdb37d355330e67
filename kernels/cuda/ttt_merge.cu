// The TTT merge: row i attends, beside its base keys, to its own key of every
// earlier unroll step. The base block comes as attention output o with log-sum-exp L; with s_j =
// scale * q . k_j:
//   lse = log(exp(L) + sum_j exp(s_j)),   out = exp(L - lse) o + sum_j exp(s_j - lse) v_j.
// One warp a head; each lane holds kPairs pairs of the head's elements in registers.
#include "kernels/cuda/device.cuh"

namespace aerie::cuda {
namespace {

constexpr int kWarpsOfBlock = 4;

/// A head's D elements spread over the lanes of a warp: lane l holds pairs l, l + 32, ...
template <int kPairs>
struct Spread {
  float at[2 * kPairs];
};

template <int kPairs, typename T>
__device__ __forceinline__ Spread<kPairs> load_spread(const T* from, int head_dim) {
  Spread<kPairs> spread;
  for (int i = 0; i < kPairs; ++i) {
    const int d = 2 * (threadIdx.x % kWarp + kWarp * i);
    Pack<T, 2> pair{};
    if (d < head_dim) pair = load<2>(from + d);
    spread.at[2 * i] = to_float(pair.at[0]);
    spread.at[2 * i + 1] = to_float(pair.at[1]);
  }
  return spread;
}

template <int kPairs, typename T>
__device__ __forceinline__ void store_spread(T* to, const Spread<kPairs>& spread, int head_dim) {
  for (int i = 0; i < kPairs; ++i) {
    const int d = 2 * (threadIdx.x % kWarp + kWarp * i);
    if (d >= head_dim) continue;
    store(to + d,
          Pack<T, 2>{{from_float<T>(spread.at[2 * i]), from_float<T>(spread.at[2 * i + 1])}});
  }
}

template <int kPairs>
__device__ __forceinline__ float dot(const Spread<kPairs>& a, const Spread<kPairs>& b) {
  float sum = 0.f;
  for (int i = 0; i < 2 * kPairs; ++i) sum += a.at[i] * b.at[i];
  return warp_reduce<Sum>(sum);
}

template <int kPairs>
__device__ __forceinline__ void add_scaled(Spread<kPairs>& to, float factor,
                                           const Spread<kPairs>& from) {
  for (int i = 0; i < 2 * kPairs; ++i) to.at[i] += factor * from.at[i];
}

/// Which of the `total` warps' work items is this warp's; false if there is none left.
__device__ __forceinline__ bool warp_item(int64_t total, int64_t& item) {
  item = int64_t(blockIdx.x) * kWarpsOfBlock + threadIdx.x / kWarp;
  return item < total;
}

template <typename T, int kPairs>
__global__ void ttt_merge_kernel(TttMerge args) {
  int64_t item;  // row * H + head
  if (!warp_item(args.rows * args.heads, item)) return;
  const int head_dim = int(args.head_dim);
  const int64_t row = item / args.heads, group = item % args.heads / (args.heads / args.kv_heads);
  const int64_t offset = item * head_dim, step_offset = (row * args.kv_heads + group) * head_dim;

  const auto q = load_spread<kPairs>(static_cast<const T*>(args.q) + offset, head_dim);
  auto out = load_spread<kPairs>(static_cast<const T*>(args.base_out) + offset, head_dim);
  float maximum = args.base_lse[item],
        sum = 1.f;  // out holds sum-weighted values relative to `maximum`
  for (int step = 0; step < args.steps; ++step) {
    const auto k =
        load_spread<kPairs>(static_cast<const T*>(args.k_steps[step]) + step_offset, head_dim);
    const auto v =
        load_spread<kPairs>(static_cast<const T*>(args.v_steps[step]) + step_offset, head_dim);
    const float score = args.scale * dot(q, k);
    const float larger = fmaxf(maximum, score);
    const float keep = expf(maximum - larger), add = expf(score - larger);
    for (int i = 0; i < 2 * kPairs; ++i) out.at[i] = keep * out.at[i] + add * v.at[i];
    sum = keep * sum + add;
    maximum = larger;
  }
  for (int i = 0; i < 2 * kPairs; ++i) out.at[i] /= sum;
  store_spread(static_cast<T*>(args.out) + offset, out, head_dim);
  if (threadIdx.x % kWarp == 0) args.lse[item] = maximum + logf(sum);
}

/// One warp a row and KV head: the heads of the group share k_j and v_j, whose gradients are summed
/// in registers. With p_j = exp(s_j - lse), delta = grad_out . out:  grad_s_j = p_j (grad_out . v_j
/// - delta).
template <typename T, int kPairs>
__global__ void ttt_merge_backward_kernel(TttMergeBackward args) {
  int64_t item;  // row * G + group
  if (!warp_item(args.rows * args.kv_heads, item)) return;
  const int head_dim = int(args.head_dim);
  const int64_t group_heads = args.heads / args.kv_heads;
  const int64_t first_head = item / args.kv_heads * args.heads + item % args.kv_heads * group_heads;

  for (int64_t head = first_head; head < first_head + group_heads; ++head) {
    const auto grad_out =
        load_spread<kPairs>(static_cast<const T*>(args.grad_out) + head * head_dim, head_dim);
    const auto out =
        load_spread<kPairs>(static_cast<const T*>(args.out) + head * head_dim, head_dim);
    const float delta = dot(grad_out, out);
    if (threadIdx.x % kWarp == 0) args.delta[head] = delta;
    if (args.steps == 0) store_spread(args.grad_q + head * head_dim, Spread<kPairs>{}, head_dim);
  }
  __syncwarp();  // every lane reads lane 0's deltas
  for (int step = 0; step < args.steps; ++step) {
    const auto k =
        load_spread<kPairs>(static_cast<const T*>(args.k_steps[step]) + item * head_dim, head_dim);
    const auto v =
        load_spread<kPairs>(static_cast<const T*>(args.v_steps[step]) + item * head_dim, head_dim);
    Spread<kPairs> grad_k{}, grad_v{};
    for (int64_t head = first_head; head < first_head + group_heads; ++head) {
      const auto q = load_spread<kPairs>(static_cast<const T*>(args.q) + head * head_dim, head_dim);
      const auto grad_out =
          load_spread<kPairs>(static_cast<const T*>(args.grad_out) + head * head_dim, head_dim);
      const float weight = expf(args.scale * dot(q, k) - args.lse[head]);
      const float grad_score = args.scale * weight * (dot(grad_out, v) - args.delta[head]);
      Spread<kPairs> grad_q{};
      if (step > 0) grad_q = load_spread<kPairs>(args.grad_q + head * head_dim, head_dim);
      add_scaled(grad_q, grad_score, k);
      add_scaled(grad_k, grad_score, q);
      add_scaled(grad_v, weight, grad_out);
      store_spread(args.grad_q + head * head_dim, grad_q, head_dim);
    }
    store_spread(static_cast<T*>(args.grad_k_steps[step]) + item * head_dim, grad_k, head_dim);
    store_spread(static_cast<T*>(args.grad_v_steps[step]) + item * head_dim, grad_v, head_dim);
  }
}

Grid warp_grid(int64_t items) {
  Grid grid;
  grid.x = divide_up(items, kWarpsOfBlock);
  grid.threads = kWarpsOfBlock * kWarp;
  return grid;
}

}  // namespace

void ttt_merge(const TttMerge& args, Stream stream) {
  with_pairs(args.dtype, args.head_dim, [&](auto element, auto pairs) {
    launch(warp_grid(args.rows * args.heads), stream,
           ttt_merge_kernel<decltype(element), decltype(pairs)::value>, args);
  });
}

void ttt_merge_backward(const TttMergeBackward& args, Stream stream) {
  with_pairs(args.dtype, args.head_dim, [&](auto element, auto pairs) {
    launch(warp_grid(args.rows * args.kv_heads), stream,
           ttt_merge_backward_kernel<decltype(element), decltype(pairs)::value>, args);
  });
}

}  // namespace aerie::cuda
