// The emulator itself: does it do what CUDA does, and does it notice what CUDA would punish.
#include "tests/kernels/cuda/emulator/emulator.h"

#include <gmock/gmock.h>

#include <stdexcept>
#include <vector>

namespace {

using emulator::Order;
using testing::ElementsAre;
using testing::HasSubstr;

/// Runs `body` on one block and gives every thread's result.
template <typename Body>
std::vector<int> run_block(unsigned threads, const Body& body, size_t shared_bytes = 0) {
  std::vector<int> out(threads, -1);
  emulator::run({1, 1, 1}, threads, shared_bytes, [&] { out[threadIdx.x] = body(); });
  return out;
}

template <typename Body>
std::string error_of(unsigned threads, const Body& body, size_t shared_bytes = 0) {
  try {
    emulator::run({1, 1, 1}, threads, shared_bytes, body);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Emulator, EveryThreadOfEveryBlockRunsOnce) {
  std::vector<int> seen(3 * 2 * 2 * 40);
  emulator::run({3, 2, 2}, 40, 0, [&] {
    EXPECT_EQ(gridDim.y, 2u);
    EXPECT_EQ(blockDim.x, 40u);
    ++seen[((blockIdx.z * 2 + blockIdx.y) * 3 + blockIdx.x) * 40 + threadIdx.x];
  });
  EXPECT_THAT(seen, testing::Each(1));
}

TEST(Emulator, ShufflesReadTheLaneThatCudaReads) {
  const auto lane = [] { return int(threadIdx.x % 32); };
  const auto xored = run_block(64, [&] { return __shfl_xor_sync(~0u, int(threadIdx.x), 5); });
  const auto down = run_block(32, [&] { return __shfl_down_sync(~0u, lane(), 3); });
  const auto up = run_block(32, [&] { return __shfl_up_sync(~0u, lane(), 3); });
  const auto broadcast = run_block(32, [&] { return __shfl_sync(~0u, lane(), 7); });
  const auto narrow_down = run_block(32, [&] { return __shfl_down_sync(~0u, lane(), 3, 8); });
  const auto narrow = run_block(32, [&] { return __shfl_sync(~0u, lane(), 9, 8); });
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(xored[size_t(i)], i ^ 5);
    EXPECT_EQ(xored[size_t(i) + 32], 32 + (i ^ 5));
    EXPECT_EQ(down[size_t(i)], i + 3 < 32 ? i + 3 : i);
    EXPECT_EQ(up[size_t(i)], i >= 3 ? i - 3 : i);
    EXPECT_EQ(broadcast[size_t(i)], 7);
    EXPECT_EQ(narrow_down[size_t(i)], i % 8 < 5 ? i + 3 : i);
    EXPECT_EQ(narrow[size_t(i)], i / 8 * 8 + 1);
  }
}

TEST(Emulator, LanesOutsideTheMaskAreNotWaitedFor) {
  const auto out = run_block(32, [] {
    if (threadIdx.x >= 8) return 0;
    return int(__ballot_sync(0xffu, threadIdx.x % 2)) + __shfl_sync(0xffu, int(threadIdx.x), 3);
  });
  EXPECT_EQ(out[0], 0xaa + 3);
  EXPECT_EQ(out[7], 0xaa + 3);
  EXPECT_EQ(out[8], 0);
}

TEST(Emulator, BarrierMakesWritesOfAllThreadsVisible) {
  for (const Order order : {Order::kForward, Order::kReverse, Order::kShuffled}) {
    emulator::set_order(order);
    const auto out = run_block(
        96,
        [] {
          int* shared = reinterpret_cast<int*>(emulator::shared_memory());
          shared[threadIdx.x] = int(threadIdx.x);
          __syncthreads();
          return shared[95 - threadIdx.x];
        },
        96 * sizeof(int));
    for (int i = 0; i < 96; ++i) EXPECT_EQ(out[size_t(i)], 95 - i);
  }
  emulator::set_order(Order::kForward);
}

/// Each thread's neighbour's value; without the barrier what is read depends on who came first.
std::vector<int> neighbours(bool with_barrier) {
  return run_block(
      64,
      [=] {
        int* shared = reinterpret_cast<int*>(emulator::shared_memory());
        shared[threadIdx.x] = int(threadIdx.x);
        if (with_barrier) __syncthreads();
        return shared[(threadIdx.x + 1) % 64];
      },
      64 * sizeof(int));
}

TEST(Emulator, MissingBarrierShowsAsDependenceOnTheOrder) {
  const auto broken = neighbours(false), whole = neighbours(true);
  emulator::set_order(Order::kReverse);
  const auto broken_reversed = neighbours(false), whole_reversed = neighbours(true);
  emulator::set_order(Order::kForward);
  EXPECT_EQ(whole, whole_reversed);
  EXPECT_NE(broken, broken_reversed);
  EXPECT_EQ(broken[0], -1) << "memory that nobody wrote yet is poisoned";
}

TEST(Emulator, BarrierThatNotAllThreadsReachIsAnError) {
  const std::string error = error_of(64, [] {
    if (threadIdx.x < 40) __syncthreads();
  });
  EXPECT_THAT(error, HasSubstr("do not meet"));
  EXPECT_THAT(error, HasSubstr("threads 0..39: waits for the block at emulator_test.cpp:"));
  EXPECT_THAT(error, HasSubstr("threads 40..63: has ended"));
}

TEST(Emulator, TwoDifferentBarriersDoNotMeet) {
  const auto body = [] {  // not inside a macro, which would give both the same line
    // NOLINTNEXTLINE(bugprone-branch-clone)
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  };
  EXPECT_THAT(error_of(64, body), HasSubstr("do not meet"));
}

TEST(Emulator, ShuffleThatALaneOfTheMaskMissesIsAnError) {
  EXPECT_THAT(error_of(32,
                       [] {
                         if (threadIdx.x != 5) __shfl_xor_sync(~0u, 1, 1);
                       }),
              HasSubstr("threads 5..5: has ended"));
  EXPECT_THAT(error_of(32, [] { __shfl_sync(0xffu << (threadIdx.x / 8 * 8), 1, 9); }),
              HasSubstr("not in the mask"));
  EXPECT_THAT(error_of(32, [] { __syncwarp(1u); }), HasSubstr("not in the mask"));
}

TEST(Emulator, WritesPastSharedMemoryAreErrors) {
  EXPECT_THAT(error_of(
                  1, [] { emulator::shared_memory()[16] = std::byte{0}; }, 16),
              HasSubstr("past the 16 bytes of dynamic shared memory"));
  EXPECT_THAT(error_of(1025, [] {}), HasSubstr("1 to 1024"));
}

TEST(Emulator, Bf16RoundsToNearestEven) {
  EXPECT_EQ(__bfloat162float(__float2bfloat16_rn(1.00390625f)), 1.0f);  // halfway: to even, down
  EXPECT_EQ(__bfloat162float(__float2bfloat16_rn(1.01171875f)), 1.015625f);  // halfway: to even, up
  EXPECT_EQ(__bfloat162float(__float2bfloat16_rn(-3.5f)), -3.5f);
  EXPECT_TRUE(std::isnan(__bfloat162float(__float2bfloat16_rn(NAN))));
}

}  // namespace
