// What planning a step costs: no memory from the heap once the largest batch was seen, and a small
// part of any forward's time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "decoding/clock.h"
#include "tests/decoding/planner_loop.h"

namespace {
thread_local int64_t allocations = 0;
}  // namespace

// Of the whole test program; other threads count for themselves.
void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace aerie {
namespace {

using testing::PlannerLoop;

int64_t allocations_of(const PlannerLoop::Options& options, int steps) {
  PlannerLoop loop(options);
  for (int i = 0; i < 200; ++i) loop.step();  // prompts are through, buffers have grown
  const int64_t before = allocations;
  for (int i = 0; i < steps; ++i) loop.step();
  return allocations - before;
}

TEST(Planner, TakesNoMemoryFromTheHeapInSteadyState) {
  for (const int64_t sequences : {1, 16, 256}) {
    for (const bool adaptive : {false, true}) {
      for (const bool prefix_cache : {false, true}) {
        for (const double target : {0.0, 1.0}) {
          EXPECT_EQ(allocations_of({sequences, adaptive, prefix_cache, target}, 100), 0)
              << sequences << " sequences" << (adaptive ? ", adaptive" : "")
              << (prefix_cache ? ", prefix cache" : "") << ", target " << target;
        }
      }
    }
  }
}

TEST(Planner, AllocationsAreSeenWhereThereAreAny) {
  PlannerLoop loop({4});
  const int64_t warm = allocations;
  loop.step();
  EXPECT_GT(allocations, warm) << "the first step has buffers to make";
}

// SmolLM2's forward of 256 rows takes more than 100 ms on two cores; unoptimised tests on a busy
// machine are given ten times what a step takes there.
TEST(Planner, OfTwoHundredFiftySixSequencesIsAboutAThousandthOfAForward) {
  for (const bool adaptive : {false, true}) {
    PlannerLoop loop({256, adaptive, true, 1.0});
    for (int i = 0; i < 100; ++i) loop.step();
    double least = 1;
    for (int i = 0; i < 300; ++i) {
      const double start = seconds_now();
      loop.step();
      least = std::min(least, seconds_now() - start);
    }
    EXPECT_LT(least, 0.001) << (adaptive ? "adaptive" : "plain");
  }
}

}  // namespace
}  // namespace aerie
