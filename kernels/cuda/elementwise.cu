// Rotary embedding and SwiGLU: one thread a vector of elements.
#include "kernels/cuda/device.cuh"

namespace aerie::cuda {
namespace {

/// Pair (d, d + D/2) of a head turns by the angle of its row's position.
template <typename T, int kPack>
__global__ void rope_kernel(Rope args) {
  const int64_t half = args.head_dim / 2, packs = half / kPack;
  const int64_t items = args.rows * args.heads * packs;
  for (int64_t item = first_item(); item < items; item += item_stride()) {
    const int64_t d = item % packs * kPack, head = item / packs % args.heads,
                  row = item / packs / args.heads;
    const int64_t angle = args.positions[row] * half + d;
    const T* x = static_cast<const T*>(args.x) + row * args.x_stride + head * args.head_dim + d;
    T* out = static_cast<T*>(args.out) + (row * args.heads + head) * args.head_dim + d;
    auto low = load<kPack>(x), high = load<kPack>(x + half);
    const auto cos = load<kPack>(args.cos + angle), sin = load<kPack>(args.sin + angle);
    for (int i = 0; i < kPack; ++i) {
      const float a = to_float(low.at[i]), b = to_float(high.at[i]);
      const float s = args.inverse ? -sin.at[i] : sin.at[i];
      low.at[i] = from_float<T>(a * cos.at[i] - b * s);
      high.at[i] = from_float<T>(b * cos.at[i] + a * s);
    }
    store(out, low);
    store(out + half, high);
  }
}

__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

template <typename T, int kPack>
__global__ void swiglu_kernel(Swiglu args) {
  const int64_t packs = args.width / kPack, items = args.rows * packs;
  for (int64_t item = first_item(); item < items; item += item_stride()) {
    const int64_t row = item / packs, c = item % packs * kPack;
    const T* gate = static_cast<const T*>(args.gate_up) + row * 2 * args.width + c;
    auto values = load<kPack>(gate);
    const auto ups = load<kPack>(gate + args.width);
    for (int i = 0; i < kPack; ++i) {
      const float g = to_float(values.at[i]);
      values.at[i] = from_float<T>(g * sigmoid(g) * to_float(ups.at[i]));
    }
    store(static_cast<T*>(args.out) + row * args.width + c, values);
  }
}

/// With s = sigmoid(gate): d silu / d gate = s * (1 + gate * (1 - s)).
template <typename T, int kPack>
__global__ void swiglu_backward_kernel(SwigluBackward args) {
  const int64_t packs = args.width / kPack, items = args.rows * packs;
  for (int64_t item = first_item(); item < items; item += item_stride()) {
    const int64_t row = item / packs, c = item % packs * kPack;
    const T* gate = static_cast<const T*>(args.gate_up) + row * 2 * args.width + c;
    T* grad_gate = static_cast<T*>(args.grad_gate_up) + row * 2 * args.width + c;
    const auto grads = load<kPack>(static_cast<const T*>(args.grad_out) + row * args.width + c);
    auto gates = load<kPack>(gate), ups = load<kPack>(gate + args.width);
    for (int i = 0; i < kPack; ++i) {
      const float g = to_float(gates.at[i]), u = to_float(ups.at[i]), grad = to_float(grads.at[i]);
      const float s = sigmoid(g);
      gates.at[i] = from_float<T>(grad * u * s * (1.f + g * (1.f - s)));
      ups.at[i] = from_float<T>(grad * g * s);
    }
    store(grad_gate, gates);
    store(grad_gate + args.width, ups);
  }
}

}  // namespace

void rope(const Rope& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool possible =
        packable<T>({args.head_dim / 2, args.x_stride}, {args.x, args.out, args.cos, args.sin});
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const int64_t items = args.rows * args.heads * (args.head_dim / 2 / kPack);
      launch(item_grid(items), stream, rope_kernel<T, kPack>, args);
    });
  });
}

void swiglu(const Swiglu& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool possible = packable<T>({args.width}, {args.gate_up, args.out});
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      launch(item_grid(args.rows * (args.width / kPack)), stream, swiglu_kernel<T, kPack>, args);
    });
  });
}

void swiglu_backward(const SwigluBackward& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool possible =
        packable<T>({args.width}, {args.gate_up, args.grad_out, args.grad_gate_up});
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      launch(item_grid(args.rows * (args.width / kPack)), stream, swiglu_backward_kernel<T, kPack>,
             args);
    });
  });
}

}  // namespace aerie::cuda
