// What the kernels need beyond plain CUDA C++: element types, vectors of elements, reductions, a
// launch function. The block emulator of the tests defines CUDA's names itself and compiles the
// same kernel files as C++; nothing else in this folder knows of it.
#pragma once
#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/launch.h"

namespace aerie::cuda {

/// How a kernel is started.
struct Grid {
  int64_t x = 1, y = 1, z = 1;  ///< blocks
  int threads = 0;
  int64_t shared_bytes = 0;  ///< of dynamic shared memory
};

}  // namespace aerie::cuda

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace aerie::cuda {

/// Starts `kernel` on every thread of the grid; an empty grid is no launch.
template <typename... Parameters, typename... Arguments>
void launch(const Grid& grid, Stream stream, void (*kernel)(Parameters...),
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  constexpr int64_t kDefaultSharedBytes = 48 << 10;
  if (grid.shared_bytes > kDefaultSharedBytes) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         int(grid.shared_bytes));
  }
  const dim3 blocks(unsigned(grid.x), unsigned(grid.y), unsigned(grid.z));
  kernel<<<blocks, grid.threads, grid.shared_bytes, stream>>>(arguments...);
}

/// The block's dynamic shared memory.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char aerie_dynamic_shared[];
  return reinterpret_cast<T*>(aerie_dynamic_shared);
}

}  // namespace aerie::cuda
#endif

namespace aerie::cuda {

using bf16 = __nv_bfloat16;

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kWarp = 32;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else {
    return __float2bfloat16_rn(x);
  }
}

/// kSize neighbouring elements, moved by one instruction (two for 32 bytes of f32 beside 16 of
/// bf16).
template <typename T, int kSize>
struct alignas(sizeof(T) * kSize < 16 ? sizeof(T) * kSize : 16) Pack {
  T at[kSize];
};

template <int kSize, typename T>
__device__ __forceinline__ Pack<T, kSize> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kSize>*>(from);
}

template <int kSize, typename T>
__device__ __forceinline__ void store(T* to, const Pack<T, kSize>& pack) {
  *reinterpret_cast<Pack<T, kSize>*>(to) = pack;
}

struct Sum {
  __device__ static float identity() { return 0.f; }
  __device__ static float join(float a, float b) { return a + b; }
};

struct Max {
  __device__ static float identity() { return -INFINITY; }
  __device__ static float join(float a, float b) { return fmaxf(a, b); }
};

/// Every lane gets the result. All lanes of the warp must call.
template <typename Op>
__device__ __forceinline__ float warp_reduce(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value = Op::join(value, __shfl_xor_sync(kAllLanes, value, step));
  }
  return value;
}

/// Every thread gets the result. All threads of the block must call; blockDim.x is a multiple
/// of 32.
template <typename Op>
__device__ __forceinline__ float block_reduce(float value) {
  __shared__ float partial[kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  value = warp_reduce<Op>(value);
  __syncthreads();  // the previous call's partial sums have been read
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = lane < int(blockDim.x) / kWarp ? partial[lane] : Op::identity();
  return warp_reduce<Op>(value);
}

__host__ __device__ inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Threads of a block that has `items` to do: whole warps, at most `limit`.
inline int threads_for(int64_t items, int limit) {
  const int64_t threads = divide_up(items, kWarp) * kWarp;
  return int(threads < kWarp ? kWarp : threads > limit ? limit : threads);
}

/// A grid-stride loop over `items`: one a thread, several where there are very many.
inline Grid item_grid(int64_t items) {
  constexpr int64_t kThreads = 256, kBlocks = 132 * 32;  // several waves on every device we know
  const int64_t blocks = divide_up(items, kThreads);
  Grid grid;
  grid.threads = kThreads;
  grid.x = blocks < kBlocks ? blocks : kBlocks;
  return grid;
}
__device__ __forceinline__ int64_t first_item() {
  return int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t item_stride() { return int64_t(gridDim.x) * blockDim.x; }

/// Whether rows of these lengths and strides at these addresses can be read 16 bytes at a time.
template <typename T>
bool packable(std::initializer_list<int64_t> sizes, std::initializer_list<const void*> addresses) {
  for (const int64_t size : sizes) {
    if (size % int64_t(16 / sizeof(T)) != 0) return false;
  }
  for (const void* address : addresses) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return false;
  }
  return true;
}

/// Calls body(T{}) with the element type.
template <typename Body>
void with_dtype(Dtype dtype, const Body& body) {
  if (dtype == Dtype::kFloat32) {
    body(float{});
  } else {
    body(bf16{});
  }
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

/// Calls body(T{}, Constant<pairs a lane>): a warp holds a head of `head_dim` elements, each lane
/// that many pairs. f32, which is there for checks, has only the widest form: half the code to
/// compile.
template <typename Body>
void with_pairs(Dtype dtype, int64_t head_dim, const Body& body) {
  constexpr int kMost = kMaxHeadDim / (2 * kWarp);
  if (dtype == Dtype::kFloat32) {
    body(float{}, Constant<kMost>{});
  } else if (head_dim <= 2 * kWarp) {
    body(bf16{}, Constant<1>{});
  } else if (head_dim <= 4 * kWarp) {
    body(bf16{}, Constant<2>{});
  } else {
    body(bf16{}, Constant<kMost>{});
  }
}

/// Calls body(Constant<elements of 16 bytes>) where 16-byte access is possible, else
/// body(Constant<1>).
template <typename T, typename Body>
void with_pack(bool possible, const Body& body) {
  if (possible) {
    body(Constant<int(16 / sizeof(T))>{});
  } else {
    body(Constant<1>{});
  }
}

}  // namespace aerie::cuda
