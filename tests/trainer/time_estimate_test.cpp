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
  rates.source_per_token = 0.002;
  rates.training_per_token = 0.001;
  rates.evaluation_seconds = 5;
  rates.checkpoint_bytes = 1e6;
  rates.store_bytes = 4e6;
  rates.write_bytes_per_second = 1e6;
  return rates;
}

double seconds_of(const std::vector<TimePart>& parts, const std::string& name) {
  for (const TimePart& part : parts) {
    if (part.name == name) return part.seconds;
  }
  return -1;
}

TEST(TimeEstimate, EveryPassRunsTheTargetOnline) {
  RunConfig config;
  config.eval.every = 40;
  config.train.checkpoint_every = 25;
  const auto parts = estimate_time(config, rates());
  EXPECT_DOUBLE_EQ(seconds_of(parts, "the target's forward pass"), 200);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "training the draft"), 100);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "3 evaluations"), 15) << "at steps 40, 80 and at the end";
  EXPECT_DOUBLE_EQ(seconds_of(parts, "4 checkpoints"), 4) << "the last step is due anyway";
  EXPECT_THAT(format_time(parts), HasSubstr("5.3 min"));
}

TEST(TimeEstimate, AHybridRunPaysForTheTargetOnceAndForItsStore) {
  RunConfig config;
  config.hidden_states.mode = "hybrid";
  const auto parts = estimate_time(config, rates());
  EXPECT_DOUBLE_EQ(seconds_of(parts, "the target's forward pass"), 100);
  EXPECT_DOUBLE_EQ(seconds_of(parts, "storing hidden states"), 4);
}

TEST(TimeEstimate, NothingHeldOutIsNothingEvaluated) {
  RunRates without = rates();
  without.evaluation_seconds = 0;
  for (const TimePart& part : estimate_time({}, without)) {
    EXPECT_EQ(part.name.find("evaluation"), std::string::npos);
  }
}

TEST(TimeEstimate, DiskHoldsWhatIsKeptTheBestAndTheOneBeingWritten) {
  RunConfig config;
  config.train.keep_checkpoints = 3;
  EXPECT_DOUBLE_EQ(checkpoint_disk(config, 1e6), 5e6);
}

}  // namespace
}  // namespace aerie
