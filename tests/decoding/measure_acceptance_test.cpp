// What an evaluation measures: the same draft in chains, and in trees where it is asked to.
#include <gtest/gtest.h>

#include "decoding/commands.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

class MeasureAcceptanceTest : public ::testing::Test {
 protected:
  Acceptance measure(const MeasureFlags& flags) const {
    return measure_acceptance(*target_, draft_.config, draft_.params, draft_.vocab, prompts_,
                              flags);
  }

  std::unique_ptr<TargetModel> target_ =
      load_target(testing::golden_dir() / "models/llama", at::kCPU, at::kFloat);
  testing::TestDraft draft_ = testing::random_draft(*target_, {0, 1}, 1, 5);
  std::vector<MediaTokens> prompts_{{{5, 9, 23, 41}, {}}, {{7, 60, 3}, {}}, {{12, 12, 30}, {}}};
};

TEST_F(MeasureAcceptanceTest, AWidthOfOneIsTheChain) {
  MeasureFlags flags;
  flags.draft_tokens = 3;
  flags.max_new_tokens = 24;
  const Acceptance chains = measure(flags);
  EXPECT_FALSE(chains.tree_length);
  EXPECT_EQ(chains.prompts.size(), prompts_.size());
  flags.tree = true;
  flags.tree_width = 1;
  flags.tree_nodes = flags.draft_tokens;
  const Acceptance both = measure(flags);
  EXPECT_EQ(both.length, chains.length);
  EXPECT_EQ(both.rate_by_depth, chains.rate_by_depth);
  EXPECT_EQ(both.tree_length, chains.length);
}

TEST_F(MeasureAcceptanceTest, ATreeOfAllLikelyGuessesIsRightMoreOften) {
  MeasureFlags flags;
  flags.draft_tokens = 3;
  flags.max_new_tokens = 24;
  flags.tree = true;
  flags.tree_width = 8;
  flags.tree_nodes = 64;
  const Acceptance both = measure(flags);
  EXPECT_GT(both.tree_length, both.length);
}

}  // namespace
}  // namespace aerie
