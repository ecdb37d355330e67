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
  for (const char* schedule : {"constant", "linear", "cosine"}) {
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

TEST(Schedule, StaysAtTheFinalRateBehindTheEnd) {
  EXPECT_DOUBLE_EQ(learning_rate(options("cosine"), 100, 24), 0.2);
}

TEST(Schedule, ARunShorterThanItsWarmUpOnlyWarmsUp) {
  EXPECT_DOUBLE_EQ(learning_rate(options("cosine"), 1, 2), 0.5);
}

TEST(Schedule, NamesTheSchedulesItKnows) {
  try {
    learning_rate(options("wsd"), 10, 24);
    FAIL() << "an unknown schedule was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("constant, linear or cosine"), std::string::npos);
  }
}

}  // namespace
}  // namespace aerie
