#include "common/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "common/error.h"

namespace aerie {
namespace {

TEST(Threads, RangesCoverEverythingOnce) {
  std::vector<std::atomic<int>> seen(1001);
  parallel_for(3, 1001, 16, [&](int64_t begin, int64_t end) {
    EXPECT_LE(end - begin, 16);
    EXPECT_EQ((begin - 3) % 16, 0);
    for (int64_t i = begin; i < end; ++i) ++seen[i];
  });
  for (int64_t i = 0; i < 1001; ++i) EXPECT_EQ(seen[i], i < 3 ? 0 : 1) << i;
}

TEST(Threads, EmptyRangeCallsNothing) {
  parallel_for(5, 5, 1, [](int64_t, int64_t) { FAIL(); });
  parallel_for(6, 5, 1, [](int64_t, int64_t) { FAIL(); });
}

TEST(Threads, FirstExceptionIsRethrownAndThePoolLivesOn) {
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(parallel_for(0, 100, 1, [](int64_t i, int64_t) { AERIE_CHECK(i != 7, "seven"); }),
                 Error);
    std::atomic<int64_t> sum = 0;
    parallel_for(0, 100, 1, [&](int64_t i, int64_t) { sum += i; });
    EXPECT_EQ(sum, 4950);
  }
}

TEST(Threads, NestedCallRunsInItsCallersThread) {
  std::atomic<int> foreign = 0;
  parallel_for(0, 8, 1, [&](int64_t, int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(0, 8, 1,
                 [&](int64_t, int64_t) { foreign += std::this_thread::get_id() != outer; });
  });
  EXPECT_EQ(foreign, 0);
}

TEST(Threads, AllThreadsTakePart) {
  set_num_threads(2);
  std::atomic<int> together = 0;
  std::atomic<bool> met = false;
  // Each of the two ranges waits for the other one: that ends only if two threads run them.
  parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    ++together;
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (together < 2 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    if (together == 2) met = true;
  });
  EXPECT_TRUE(met);
}

TEST(Threads, CallsFromManyThreadsAtOnce) {
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        parallel_for(0, 10, 1, [&](int64_t i, int64_t) { sum += i; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 500 * 45);
}

TEST(Threads, BlockedWorkersWakeUp) {
  std::atomic<int64_t> sum = 0;
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    parallel_for(0, 10, 1, [&](int64_t i, int64_t) { sum += i; });
  }
  EXPECT_EQ(sum, 20 * 45);
}

TEST(Threads, CountIsChecked) {
  EXPECT_THROW(set_num_threads(0), Error);
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  set_num_threads(2);
}

}  // namespace
}  // namespace aerie
