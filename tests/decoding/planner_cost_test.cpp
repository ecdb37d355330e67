// What planning a step costs: no memory from the heap once the largest batch was seen, and a small
// part of any forward's time.
#include <gtest/gtest.h>

#include <algorithm>

#include "decoding/clock.h"
#include "tests/decoding/counted_allocations.h"
#include "tests/decoding/planner_loop.h"

namespace aerie {
namespace {

using testing::allocations;
using testing::PlannerLoop;

int64_t allocations_of(const PlannerLoop::Options& options, int steps) {
  PlannerLoop loop(options);
  loop.warm_up();
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
    loop.warm_up();
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
