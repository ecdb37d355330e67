// RMS norm, with residual add for inference, and its backward. Wide rows get a block, narrow ones
// (per-head norms) a warp.
#include "kernels/cuda/device.cuh"

namespace aerie::cuda {
namespace {

constexpr int kNarrow = 512;     // up to this width a warp does a row
constexpr int kRowsOfBlock = 4;  // narrow rows of one block
constexpr int kMaxThreads = 512;

/// The row of this thread and its place among the threads that share the row.
struct Place {
  int64_t row;
  int index, count;
};

template <bool kNarrowRow>
__device__ __forceinline__ Place place() {
  if (kNarrowRow) {
    return {int64_t(blockIdx.x) * kRowsOfBlock + threadIdx.x / kWarp, int(threadIdx.x % kWarp),
            kWarp};
  }
  return {int64_t(blockIdx.x), int(threadIdx.x), int(blockDim.x)};
}

template <bool kNarrowRow>
__device__ __forceinline__ float row_sum(float value) {
  return kNarrowRow ? warp_reduce<Sum>(value) : block_reduce<Sum>(value);
}

/// Weights c.. of a norm as f32. They are few and cached, so their type is a branch and not another
/// kernel.
template <typename T, int kPack>
__device__ __forceinline__ void load_weights(const void* weight, Dtype dtype, int64_t c,
                                             float (&to)[kPack]) {
  if (dtype == Dtype::kFloat32) {
    const auto weights = load<kPack>(static_cast<const float*>(weight) + c);
    for (int i = 0; i < kPack; ++i) to[i] = weights.at[i];
  } else {
    const auto weights = load<kPack>(static_cast<const T*>(weight) + c);
    for (int i = 0; i < kPack; ++i) to[i] = to_float(weights.at[i]);
  }
}

/// residual += x (rounded to T, as it is stored); the sum of squares of this thread's share.
template <typename T, int kPack>
__device__ float add_and_square(const T* x, T* residual, const Place& at, int64_t width) {
  float squares = 0.f;
  for (int64_t c = at.index * kPack; c < width; c += at.count * kPack) {
    auto values = load<kPack>(x + c);
    if (residual != nullptr) {
      const auto old = load<kPack>(residual + c);
      for (int i = 0; i < kPack; ++i) {
        values.at[i] = from_float<T>(to_float(old.at[i]) + to_float(values.at[i]));
      }
      store(residual + c, values);
    }
    for (int i = 0; i < kPack; ++i) squares += to_float(values.at[i]) * to_float(values.at[i]);
  }
  return squares;
}

template <typename T, int kPack, bool kNarrowRow>
__global__ void rms_norm_kernel(RmsNorm args) {
  const Place at = place<kNarrowRow>();
  if (at.row >= args.rows) return;  // a whole warp leaves, and wide rows have no such block
  const int64_t offset = at.row * args.width;
  const T* x = static_cast<const T*>(args.x) + offset;
  T* residual = args.residual == nullptr ? nullptr : static_cast<T*>(args.residual) + offset;
  const float squares = row_sum<kNarrowRow>(add_and_square<T, kPack>(x, residual, at, args.width));
  const float scale = rsqrtf(squares / float(args.width) + args.eps);

  const T* normed =
      residual == nullptr ? x : residual;  // this thread's own writes, or x: no barrier needed
  T* out = static_cast<T*>(args.out) + offset;
  for (int64_t c = at.index * kPack; c < args.width; c += at.count * kPack) {
    auto values = load<kPack>(normed + c);
    float weights[kPack];
    load_weights<T>(args.weight, args.weight_dtype, c, weights);
    for (int i = 0; i < kPack; ++i) {
      values.at[i] = from_float<T>(to_float(values.at[i]) * scale * weights[i]);
    }
    store(out + c, values);
  }
}

/// With r = 1/rms, u = grad_out * weight:  grad_x = r * u - x * r^3 / C * sum(u * x).
template <typename T, int kPack, bool kNarrowRow>
__global__ void rms_norm_backward_kernel(RmsNormBackward args) {
  const Place at = place<kNarrowRow>();
  if (at.row >= args.rows) return;
  const int64_t offset = at.row * args.width;
  const T* x = static_cast<const T*>(args.x) + offset;
  const T* grad_out = static_cast<const T*>(args.grad_out) + offset;

  float squares = 0.f, dot = 0.f;
  for (int64_t c = at.index * kPack; c < args.width; c += at.count * kPack) {
    const auto values = load<kPack>(x + c);
    const auto grads = load<kPack>(grad_out + c);
    float weights[kPack];
    load_weights<T>(args.weight, args.weight_dtype, c, weights);
    for (int i = 0; i < kPack; ++i) {
      const float value = to_float(values.at[i]);
      squares += value * value;
      dot += value * to_float(grads.at[i]) * weights[i];
    }
  }
  const float scale = rsqrtf(row_sum<kNarrowRow>(squares) / float(args.width) + args.eps);
  const float pull = scale * scale * scale * row_sum<kNarrowRow>(dot) / float(args.width);
  if (at.index == 0) args.inverse_rms[at.row] = scale;

  T* grad_x = static_cast<T*>(args.grad_x) + offset;
  for (int64_t c = at.index * kPack; c < args.width; c += at.count * kPack) {
    auto values = load<kPack>(x + c);
    const auto grads = load<kPack>(grad_out + c);
    float weights[kPack];
    load_weights<T>(args.weight, args.weight_dtype, c, weights);
    for (int i = 0; i < kPack; ++i) {
      const float u = to_float(grads.at[i]) * weights[i];
      values.at[i] = from_float<T>(scale * u - pull * to_float(values.at[i]));
    }
    store(grad_x + c, values);
  }
}

/// grad_weight[stripe] = sum over the stripe's rows of grad_out * x / rms. Neighbouring lanes read
/// neighbouring packs; no atomics, so the sum is the same every time.
template <typename T, int kPack>
__global__ void rms_norm_grad_weight_kernel(RmsNormBackward args) {
  const int64_t c = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kPack;
  if (c >= args.width) return;
  const T* x = static_cast<const T*>(args.x);
  const T* grad_out = static_cast<const T*>(args.grad_out);
  float sums[kPack] = {};
  for (int64_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const auto values = load<kPack>(x + row * args.width + c);
    const auto grads = load<kPack>(grad_out + row * args.width + c);
    const float scale = args.inverse_rms[row];
    for (int i = 0; i < kPack; ++i)
      sums[i] += to_float(grads.at[i]) * to_float(values.at[i]) * scale;
  }
  for (int i = 0; i < kPack; ++i) args.grad_weight[blockIdx.y * args.width + c + i] = sums[i];
}

Grid row_grid(int64_t rows, int64_t width, int pack) {
  Grid grid;
  const bool narrow = width <= kNarrow;
  grid.x = narrow ? divide_up(rows, kRowsOfBlock) : rows;
  grid.threads = narrow ? kRowsOfBlock * kWarp : threads_for(divide_up(width, pack), kMaxThreads);
  return grid;
}

}  // namespace

void rms_norm(const RmsNorm& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool possible = packable<T>({args.width}, {args.x, args.weight, args.residual, args.out});
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const auto kernel = args.width <= kNarrow ? rms_norm_kernel<T, kPack, true>
                                                : rms_norm_kernel<T, kPack, false>;
      launch(row_grid(args.rows, args.width, kPack), stream, kernel, args);
    });
  });
}

void rms_norm_backward(const RmsNormBackward& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool possible =
        packable<T>({args.width}, {args.x, args.weight, args.grad_out, args.grad_x});
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const auto kernel = args.width <= kNarrow ? rms_norm_backward_kernel<T, kPack, true>
                                                : rms_norm_backward_kernel<T, kPack, false>;
      launch(row_grid(args.rows, args.width, kPack), stream, kernel, args);
      Grid columns;
      columns.threads = 128;
      columns.x = divide_up(divide_up(args.width, kPack), columns.threads);
      columns.y = args.stripes;
      launch(columns, stream, rms_norm_grad_weight_kernel<T, kPack>, args);
    });
  });
}

}  // namespace aerie::cuda
