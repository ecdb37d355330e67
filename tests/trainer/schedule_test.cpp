#include "trainer/schedule.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace aerie {
namespace {

OptimSection options(const std::string& schedule) {
  OptimSection optim;
  optim.lr = 1.0;
  optim.warmup_steps = 4;
  optim.final_lr_ratio = 0.2;
  optim.schedule = schedule;
  return optim;
}

TEST(Schedule, WarmsUpToTheFullRate) {
  for (const char* schedule : {"constant", "linear", "cosine", "wsd"}) {
    const OptimSection optim = options(schedule);
    EXPECT_DOUBLE_EQ(learning_rate(optim, 0, 24), 0.25) << schedule;
    EXPECT_DOUBLE_EQ(learning_rate(optim, 3, 24), 1.0) << schedule;
  }
}

TEST(Schedule, EndsAtTheFinalRate) {
  EXPECT_DOUBLE_EQ(learning_rate(options("constant"), 23, 24), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(options("linear"), 23, 24), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate(options("cosine"), 23, 24), 0.2);
}

TEST(Schedule, IsHalfWayInTheMiddle) {
  EXPECT_DOUBLE_EQ(learning_rate(options("linear"), 13, 24), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate(options("cosine"), 13, 24), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate(options("linear"), 8, 24), 0.8);
  EXPECT_NEAR(learning_rate(options("cosine"), 8, 24), 0.2 + 0.8 * 0.8535533906, 1e-9);
}

TEST(Schedule, WsdFallsInTheLastShareOnly) {
  OptimSection optim = options("wsd");
  optim.decay_ratio = 0.25;  // the last 6 of 24 steps
  EXPECT_DOUBLE_EQ(learning_rate(optim, 17, 24), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(optim, 20, 24), 0.6);
  EXPECT_DOUBLE_EQ(learning_rate(optim, 23, 24), 0.2);
}

TEST(Schedule, WarmUpMayBeAShareOfAllSteps) {
  OptimSection optim = options("constant");
  optim.warmup_ratio = 0.25;
  EXPECT_DOUBLE_EQ(learning_rate(optim, 0, 40), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(optim, 8, 40), 0.9);
  EXPECT_DOUBLE_EQ(learning_rate(optim, 9, 40), 1.0);
}

TEST(Schedule, StaysAtTheFinalRateBehindTheEnd) {
  EXPECT_DOUBLE_EQ(learning_rate(options("cosine"), 100, 24), 0.2);
}

TEST(Schedule, ARunShorterThanItsWarmUpOnlyWarmsUp) {
  EXPECT_DOUBLE_EQ(learning_rate(options("cosine"), 1, 2), 0.5);
}

TEST(Schedule, NamesTheSchedulesItKnows) {
  try {
    learning_rate(options("step"), 10, 24);
    FAIL() << "an unknown schedule was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("constant, linear, cosine or wsd"), std::string::npos);
  }
}

}  // namespace
}  // namespace aerie
