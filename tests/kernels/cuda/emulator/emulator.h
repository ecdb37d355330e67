// A CUDA block on the CPU: the threads of a block are fibers that take turns, barriers and warp
// shuffles are meeting points. Force-included before a kernel file, it supplies CUDA's names, so
// that the file compiles as C++.
//
// What it catches: a barrier or shuffle that not all threads reach (thrown as an error that says
// where each waits), writes past dynamic shared memory, reads of it before any write (it starts as
// NaN), and missing barriers, because the threads can be run in several orders and must give the
// same result in all. What it cannot catch: races inside one warp between two shuffles, and
// everything about speed.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>

// CUDA's keywords have to be macros. Blocks run one after the other, so shared memory can be
// static.
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct CUstream_st;

namespace emulator {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

/// The order in which threads (and blocks) take their turns. A correct kernel gives the same result
/// in every order.
enum class Order { kForward, kReverse, kShuffled };
void set_order(Order order);

/// Runs body once for every thread of every block. Throws std::runtime_error where the threads do
/// not meet.
void run(Index blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& body);

/// For the running thread: waits for the block; waits for the lanes of `mask` and returns what each
/// of them gave.
void meet_block(const std::source_location& where);
const std::array<uint64_t, 32>& meet_warp(unsigned mask, uint64_t value,
                                          const std::source_location& where);
/// The value of `lane`, which has to be one of `mask`.
uint64_t pick(const std::array<uint64_t, 32>& values, unsigned mask, int lane,
              const std::source_location& where);

/// Dynamic shared memory of the running block.
std::byte* shared_memory();

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulator

inline emulator::Index threadIdx, blockIdx, blockDim, gridDim;  // of the running thread

using Where = std::source_location;

inline void __syncthreads(const Where& where = Where::current()) { emulator::meet_block(where); }

inline void __syncwarp(unsigned mask = 0xffffffffu, const Where& where = Where::current()) {
  emulator::meet_warp(mask, 0, where);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              const Where& where = Where::current()) {
  const int self = int(threadIdx.x % 32), source = self / width * width + lane % width;
  const auto& values = emulator::meet_warp(mask, emulator::to_bits(value), where);
  return emulator::from_bits<T>(emulator::pick(values, mask, source, where));
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  const Where& where = Where::current()) {
  const int self = int(threadIdx.x % 32), source = self ^ lanes;
  const auto& values = emulator::meet_warp(mask, emulator::to_bits(value), where);
  return source / width > self / width
             ? value
             : emulator::from_bits<T>(emulator::pick(values, mask, source, where));
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, int lanes, int width = 32,
                   const Where& where = Where::current()) {
  const int self = int(threadIdx.x % 32), source = self + lanes;
  const auto& values = emulator::meet_warp(mask, emulator::to_bits(value), where);
  return source / width != self / width
             ? value
             : emulator::from_bits<T>(emulator::pick(values, mask, source, where));
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, int lanes, int width = 32,
                 const Where& where = Where::current()) {
  const int self = int(threadIdx.x % 32), source = self - lanes;
  const auto& values = emulator::meet_warp(mask, emulator::to_bits(value), where);
  return source < self / width * width
             ? value
             : emulator::from_bits<T>(emulator::pick(values, mask, source, where));
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const Where& where = Where::current()) {
  const auto& values = emulator::meet_warp(mask, predicate != 0, where);
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1u) votes |= unsigned(values[lane]) << lane;
  }
  return votes;
}

/// Fibers do not interrupt each other, so plain code is atomic.
template <typename T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}

inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
  return emulator::from_bits<float>(uint64_t(x.bits) << 16);
}

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const auto bits = uint32_t(emulator::to_bits(x));
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

namespace aerie::cuda {

template <typename Grid, typename... Parameters, typename... Arguments>
void launch(const Grid& grid, CUstream_st*, void (*kernel)(Parameters...), Arguments... arguments) {
  emulator::run({unsigned(grid.x), unsigned(grid.y), unsigned(grid.z)}, unsigned(grid.threads),
                size_t(grid.shared_bytes), [=] { kernel(arguments...); });
}

template <typename T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(emulator::shared_memory());
}

}  // namespace aerie::cuda
