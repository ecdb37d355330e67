// The paged cache: new keys and values to their slots, and slots to other slots. A page is [G,
// kPageSize, D].
#include "kernels/cuda/device.cuh"

namespace aerie::cuda {
namespace {

/// Where element d of head g of a slot lies.
__device__ __forceinline__ int64_t slot_offset(int64_t slot, int64_t g, int64_t d, int64_t kv_heads,
                                               int64_t head_dim) {
  return ((slot / kPageSize * kv_heads + g) * kPageSize + slot % kPageSize) * head_dim + d;
}

template <typename T, int kPack>
__global__ void kv_append_kernel(KvAppend args) {
  const int64_t packs = args.head_dim / kPack, items = args.rows * args.kv_heads * packs;
  for (int64_t item = first_item(); item < items; item += item_stride()) {
    const int64_t d = item % packs * kPack, g = item / packs % args.kv_heads,
                  row = item / packs / args.kv_heads;
    const int64_t from = g * args.head_dim + d;
    const int64_t to = slot_offset(args.slots[row], g, d, args.kv_heads, args.head_dim);
    store(static_cast<T*>(args.k_pages) + to,
          load<kPack>(static_cast<const T*>(args.k) + row * args.k_stride + from));
    store(static_cast<T*>(args.v_pages) + to,
          load<kPack>(static_cast<const T*>(args.v) + row * args.v_stride + from));
  }
}

/// blockIdx.y is a layer's K or V. Reads the slots into the staging buffer, or writes them from
/// there.
template <typename T, int kPack, bool kGather>
__global__ void kv_move_kernel(KvMove args) {
  const int64_t layer = blockIdx.y / 2;
  T* pages = static_cast<T*>(blockIdx.y % 2 == 0 ? args.k_pages[layer] : args.v_pages[layer]);
  const int64_t packs = args.head_dim / kPack, items = args.count * args.kv_heads * packs;
  T* staging = static_cast<T*>(args.staging) + int64_t(blockIdx.y) * items * kPack;
  for (int64_t item = first_item(); item < items; item += item_stride()) {
    const int64_t d = item % packs * kPack, g = item / packs % args.kv_heads,
                  move = item / packs / args.kv_heads;
    const int64_t slot = kGather ? args.from[move] : args.to[move];
    T* cell = pages + slot_offset(slot, g, d, args.kv_heads, args.head_dim);
    if (kGather) {
      store(staging + item * kPack, load<kPack>(cell));
    } else {
      store(cell, load<kPack>(staging + item * kPack));
    }
  }
}

}  // namespace

void kv_append(const KvAppend& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    const bool possible = packable<T>({args.head_dim, args.k_stride, args.v_stride},
                                      {args.k, args.v, args.k_pages, args.v_pages});
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      const int64_t items = args.rows * args.kv_heads * (args.head_dim / kPack);
      launch(item_grid(items), stream, kv_append_kernel<T, kPack>, args);
    });
  });
}

void kv_move(const KvMove& args, Stream stream) {
  with_dtype(args.dtype, [&](auto element) {
    using T = decltype(element);
    bool possible = packable<T>({args.head_dim}, {args.staging});
    for (int64_t layer = 0; layer < args.layers; ++layer) {
      possible = possible && packable<T>({}, {args.k_pages[layer], args.v_pages[layer]});
    }
    with_pack<T>(possible, [&](auto pack) {
      constexpr int kPack = decltype(pack)::value;
      Grid grid = item_grid(args.count * args.kv_heads * (args.head_dim / kPack));
      grid.y = 2 * args.layers;
      launch(grid, stream, kv_move_kernel<T, kPack, true>, args);
      launch(grid, stream, kv_move_kernel<T, kPack, false>, args);
    });
  });
}

}  // namespace aerie::cuda
