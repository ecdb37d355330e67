// Gradients of several ranks add up while backward passes go on.
#include "trainer/gradient_sum.h"

#include <gmock/gmock.h>

#include "tests/rank_threads.h"
#include "trainer/optimizer.h"

namespace aerie {
namespace {

using ::testing::Each;
using testing::kNoError;
using testing::run_ranks;

constexpr int64_t kSmallBucket = 400;  // bytes

DraftParams three_parameters() {
  DraftParams params;
  params.tensors.emplace_back("first", at::ones({10, 10}));
  params.tensors.emplace_back("middle", at::ones({10}));
  params.tensors.emplace_back("last", at::ones({20, 10}));
  return params;
}

/// A loss whose gradients are `scale`, 2 scale and 3 scale.
void backward(const DraftParams& params, double scale) {
  (params.at("first").sum() * scale + params.at("middle").sum() * (2 * scale) +
   params.at("last").sum() * (3 * scale))
      .backward();
}

void expect_gradients(const DraftParams& params, double unit) {
  int factor = 0;
  for (const auto& [name, tensor] : params.tensors) {
    EXPECT_TRUE(tensor.grad().eq(unit * ++factor).all().item<bool>()) << name;
  }
}

TEST(GradientSum, AddsUpTheRanksAndGoesOffDuringTheLastBackwardPass) {
  const auto errors = run_ranks(3, [](Ranks& ranks) {
    DraftParams params = three_parameters();
    Optimizer optimizer(params, {});
    GradientSum sum(params, optimizer.gradient(), ranks, kSmallBucket);
    EXPECT_EQ(sum.buckets(), 2);
    const double mine = 1.0 + ranks.rank();
    for (int step = 0; step < 2; ++step) {
      backward(params, mine);  // not the last: nothing may go off yet
      EXPECT_EQ(sum.overlapped(), 2 * step);
      sum.arm();
      backward(params, 10 * mine);
      EXPECT_EQ(sum.overlapped(), 2 * step + 2);
      sum.finish();
      expect_gradients(params, 66);
      optimizer.step(0.0, 1.0);  // clears
    }
  });
  EXPECT_THAT(errors, Each(kNoError));
}

TEST(GradientSum, ARankWithoutABackwardPassTakesPart) {
  const auto errors = run_ranks(2, [](Ranks& ranks) {
    DraftParams params = three_parameters();
    Optimizer optimizer(params, {});
    GradientSum sum(params, optimizer.gradient(), ranks, kSmallBucket);
    if (ranks.first()) {
      sum.arm();
      backward(params, 5);
    }
    sum.finish();
    expect_gradients(params, 5);
  });
  EXPECT_THAT(errors, Each(kNoError));
}

TEST(GradientSum, AloneLeavesGradientsAsTheyAre) {
  Ranks alone;
  DraftParams params = three_parameters();
  Optimizer optimizer(params, {});
  GradientSum sum(params, optimizer.gradient(), alone);
  sum.arm();
  backward(params, 2);
  sum.finish();
  expect_gradients(params, 2);
}

DraftParams random_parameters() {
  at::manual_seed(4);
  DraftParams params;
  params.tensors.emplace_back("a", at::randn({70, 100}));
  params.tensors.emplace_back("b", at::randn({333}));
  params.tensors.emplace_back("c", at::randn({50, 21}));
  return params;
}

void give_gradients(const DraftParams& params, int step) {
  for (const auto& [name, tensor] : params.tensors) {
    tensor.grad().copy_((tensor.detach() * (step + 1)).sin());
  }
}

TEST(ShardedOptimizer, EqualsTheWholeOneBitForBit) {
  for (const int count : {2, 3}) {
    DraftParams straight = random_parameters();
    Optimizer whole(straight, {});
    for (int step = 0; step < 5; ++step) {
      give_gradients(straight, step);
      whole.step(0.01, 1.0);
    }
    const DraftParams start = random_parameters();  // at::manual_seed is no thread's own
    const auto errors = run_ranks(count, [&](Ranks& ranks) {
      DraftParams params, copy;
      for (const auto& [name, tensor] : start.tensors) {
        params.tensors.emplace_back(name, tensor.clone());
        copy.tensors.emplace_back(name, tensor.clone());
      }
      Optimizer optimizer(params, {}, ranks, true);
      EXPECT_LT(optimizer.bytes(), whole.bytes());
      for (int step = 0; step < 3; ++step) {
        give_gradients(params, step);
        optimizer.step(0.01, 1.0);
      }
      // Into a checkpoint and out of it again, half-way.
      const Moments moments = optimizer.moments();
      EXPECT_EQ(moments.first.tensors.empty(), !ranks.first());
      Optimizer resumed(copy, {}, ranks, true);
      resumed.restore(params, moments, optimizer.updates());
      for (int step = 3; step < 5; ++step) {
        give_gradients(copy, step);
        resumed.step(0.01, 1.0);
      }
      for (const auto& [name, tensor] : straight.tensors) {
        EXPECT_TRUE(tensor.equal(copy.at(name))) << name << " on rank " << ranks.rank();
      }
      const Moments end = resumed.moments();
      for (const auto& [name, tensor] : end.second.tensors) {
        EXPECT_TRUE(tensor.equal(whole.moments().second.at(name))) << name;
      }
    });
    EXPECT_THAT(errors, Each(kNoError));
  }
}

}  // namespace
}  // namespace aerie
