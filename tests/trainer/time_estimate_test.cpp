// What a dry run says of time and disk, worked by hand. That it comes true is measured, not tested:
// README.md.
#include "trainer/time_estimate.h"

#include <gmock/gmock.h>

namespace aerie {
namespace {

using ::testing::HasSubstr;

RunRates rates() {
  RunRates rates;
  rates.steps = 100;
  rates.tokens = 100'000;
  rates.first_pass_tokens = 50'000;
  rates.first = rates.later = {0.002, 0.001};
  rates.first_step = 2;
  rates.start = 3;
  rates.first_heldout = rates.heldout = 5;
  rates.decoding = 7;
  rates.checkpoint = 1;
  rates.record = 0.01;
  return rates;
}

double seconds_of(const std::vector<TimePart>& parts, const std::string& name) {
  for (const TimePart& part : parts) {
    if (part.name == name) return part.seconds;
  }
  return -1;
}

std::vector<TimePart> parts_of(const RunConfig& config, const RunRates& rates) {
  return time_parts(config.hidden_states.mode, estimate_time(config, rates));
}

TEST(TimeEstimate, EveryPassRunsTheTargetOnline) {
  RunConfig config;
  config.hidden_states.mode = "online";
  config.eval.every = 40;
  config.train.checkpoint_every = 25;
  config.train.log_every = 10;
  const auto parts = parts_of(config, rates());
  EXPECT_DOUBLE_EQ(seconds_of(parts, "start"), 3);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "the target's forward pass"), 200);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "training the draft"), 102) << "the first step takes longer";
  EXPECT_DOUBLE_EQ(seconds_of(parts, "3 evaluations: held-out documents"), 15)
      << "at steps 40, 80 and at the end";
  EXPECT_DOUBLE_EQ(seconds_of(parts, "3 evaluations: decoding"), 21);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "6 checkpoints"), 6)
      << "four that are due, and the best at steps 40 and 80";
  EXPECT_NEAR(seconds_of(parts, "metrics and report"), 0.13, 1e-12) << "10 steps, 3 evaluations";
  EXPECT_THAT(format_time(parts), HasSubstr("5.8 min"));
}

TEST(TimeEstimate, AHybridRunPaysForTheTargetOnceAndReadsFromThenOn) {
  RunConfig config;
  config.hidden_states.mode = "hybrid";
  RunRates hybrid = rates();
  hybrid.later = {0.0001, 0.002};
  hybrid.heldout = 1;
  config.eval.every = 50;
  const auto parts = parts_of(config, hybrid);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "first pass: the target's forward, storing"), 100);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "later passes: waiting for stored states"), 5);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "training the draft"), 2 + 50 + 100);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "2 evaluations: held-out documents"), 6);
}

TEST(TimeEstimate, AStoreThatIsThereLeavesNothingToTheTarget) {
  RunConfig config;
  config.hidden_states.mode = "hybrid";
  RunRates there = rates();
  there.first_pass_tokens = 0;
  EXPECT_EQ(estimate_time(config, there).first_pass, 0);
}

TEST(TimeEstimate, NothingHeldOutIsNothingEvaluated) {
  RunRates without = rates();
  without.first_heldout = 0;
  for (const TimePart& part : parts_of({}, without)) {
    EXPECT_EQ(part.name.find("evaluation"), std::string::npos);
  }
}

TEST(TimeEstimate, ADraftThatGuessesEverySecondTokenRightIsTheUsualOne) {
  EXPECT_DOUBLE_EQ(usual_acceptance(0), 1);
  EXPECT_DOUBLE_EQ(usual_acceptance(1), 1.5);
  EXPECT_DOUBLE_EQ(usual_acceptance(3), 1.875);
}

TEST(TimeEstimate, DiskHoldsWhatIsKeptTheBestAndTheOneBeingWritten) {
  RunConfig config;
  config.train.keep_checkpoints = 3;
  EXPECT_DOUBLE_EQ(checkpoint_disk(config, 1e6), 5e6);
}

}  // namespace
}  // namespace aerie
