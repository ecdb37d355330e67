// AdamW against the formula, written out; the golden test compares it with PyTorch's.
#include "trainer/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace aerie {
namespace {

OptimSection options(double clip) {
  OptimSection optim;
  optim.beta1 = 0.9;
  optim.beta2 = 0.99;
  optim.eps = 1e-6;
  optim.weight_decay = 0.1;
  optim.clip = clip;
  return optim;
}

DraftParams two_parameters() {
  DraftParams params;
  params.tensors.emplace_back("a", at::tensor({1.0f, -2.0f}));
  params.tensors.emplace_back("b", at::full({300, 400}, 0.5f));  // more than one piece of work
  return params;
}

TEST(Optimizer, FollowsTheFormula) {
  DraftParams params = two_parameters();
  Optimizer optimizer(params, options(1e9));
  double weight = -2.0, first = 0, second = 0;
  for (int step = 1; step <= 3; ++step) {
    const double gradient = 0.25 * step;
    params.at("a").grad().copy_(at::tensor({0.0f, static_cast<float>(gradient)}));
    const Optimizer::Report report = optimizer.step(0.01, 2.0);  // the scale doubles the gradient
    EXPECT_TRUE(report.applied);
    EXPECT_NEAR(report.grad_norm, 2 * gradient, 1e-6);
    weight -= 0.01 * 0.1 * weight;
    first = 0.9 * first + 0.1 * 2 * gradient;
    second = 0.99 * second + 0.01 * 4 * gradient * gradient;
    const double unbiased = first / (1 - std::pow(0.9, step));
    weight -= 0.01 * unbiased / (std::sqrt(second / (1 - std::pow(0.99, step))) + 1e-6);
    EXPECT_NEAR(params.at("a")[1].item<double>(), weight, 1e-6);
  }
  EXPECT_NEAR(params.at("b")[7][9].item<double>(), 0.5 * std::pow(1 - 0.001, 3), 1e-6);
  EXPECT_EQ(optimizer.updates(), 3);
}

// The average keeps a share that grows with its age: of update t at most (1 + t) / (10 + t).
TEST(Optimizer, AveragesTheMasters) {
  DraftParams params = two_parameters();
  OptimSection section = options(1e9);
  section.ema = 0.25;
  Optimizer optimizer(params, section);
  ASSERT_TRUE(optimizer.averages());
  double average = -2.0;
  for (int step = 1; step <= 4; ++step) {
    params.at("a").grad().fill_(1.0f);
    optimizer.step(0.1, 1.0);
    const double keep = std::min(0.25, (1.0 + step) / (10.0 + step));
    average = keep * average + (1 - keep) * params.at("a")[1].item<double>();
    EXPECT_NEAR(optimizer.average().at("a")[1].item<double>(), average, 1e-6) << step;
  }
  EXPECT_FALSE(Optimizer(params, options(1)).averages());
}

TEST(Optimizer, ClipsByTheGlobalNorm) {
  DraftParams params = two_parameters();
  Optimizer optimizer(params, options(1.0));
  params.at("a").grad().fill_(3.0);
  params.at("b").grad().fill_(4.0);
  const double norm = std::sqrt(2 * 9.0 + 120000 * 16.0);
  EXPECT_NEAR(optimizer.step(0.0, 1.0).grad_norm, norm, norm * 1e-6);
  // At rate 0 the weights stay and the first moment is 0.1 of the clipped gradient.
  EXPECT_NEAR(optimizer.moments().first.at("b")[0][0].item<double>(), 0.1 * 4.0 / norm, 1e-9);
  EXPECT_EQ(params.at("a")[0].item<float>(), 1.0f);
}

TEST(Optimizer, LeavesEverythingAloneWhereAGradientIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    DraftParams params = two_parameters();
    Optimizer optimizer(params, options(1.0));
    params.at("b").grad()[299][399] = bad;
    EXPECT_FALSE(optimizer.step(0.1, 1.0).applied);
    EXPECT_EQ(optimizer.updates(), 0);
    EXPECT_EQ(params.at("a")[0].item<float>(), 1.0f);
    EXPECT_EQ(optimizer.moments().second.at("b").abs().max().item<float>(), 0.0f);
    EXPECT_EQ(params.at("b").grad().abs().max().item<float>(), 0.0f) << "cleared for the next step";
  }
}

TEST(Optimizer, ContinuesBitForBitFromRestoredMoments) {
  DraftParams straight = two_parameters(), resumed = two_parameters();
  Optimizer one(straight, options(1.0)), two(resumed, options(1.0));
  const auto train = [](DraftParams& params, Optimizer& optimizer, int steps) {
    for (int i = 0; i < steps; ++i) {
      for (auto& [name, tensor] : params.tensors) tensor.grad().copy_(tensor.detach() * 0.3);
      optimizer.step(0.01, 1.0);
    }
  };
  train(straight, one, 3);
  two.restore(straight, one.moments(), one.updates());
  train(straight, one, 4);
  train(resumed, two, 4);
  for (const auto& [name, tensor] : straight.tensors) {
    EXPECT_TRUE(at::equal(tensor, resumed.at(name))) << name;
  }
}

}  // namespace
}  // namespace aerie
