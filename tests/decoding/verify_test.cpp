// Every number is worked in the comments.
#include "decoding/verify.h"

#include <gmock/gmock.h>

namespace aerie {
namespace {

using ::testing::ElementsAre;

Chunk chain(std::vector<int32_t> tokens) {
  Chunk chunk;
  chunk.tokens = std::move(tokens);
  for (int32_t row = 0; row < chunk.rows(); ++row) {
    chunk.positions.push_back(100 + row);
    chunk.logit_rows.push_back(row);
  }
  return chunk;
}

Sequence sequence_with_limit(int64_t max_new_tokens, std::vector<int64_t> stops) {
  Sequence sequence;
  sequence.request.prompt = {1, 2};
  sequence.tokens = {1, 2, 3};  // one new token so far
  sequence.request.max_new_tokens = max_new_tokens;
  sequence.request.stop_tokens = std::move(stops);
  return sequence;
}

TEST(Verify, TakesTheLongestAgreeingRunAndTheTargetsOwnToken) {
  // Rows 7 | 8 9 4. The target says 8 after 7, 9 after 8, 5 after 9: 4 is wrong, 5 is emitted.
  const Verdict verdict = verify(chain({7, 8, 9, 4}), std::vector<int32_t>{8, 9, 5, 6});
  EXPECT_THAT(verdict.keep, ElementsAre(0, 1, 2));
  EXPECT_THAT(verdict.emit, ElementsAre(8, 9, 5));
}

TEST(Verify, EmitsABonusTokenWhenAllGuessesHold) {
  const Verdict verdict = verify(chain({7, 8}), std::vector<int32_t>{8, 3});
  EXPECT_THAT(verdict.keep, ElementsAre(0, 1));
  EXPECT_THAT(verdict.emit, ElementsAre(8, 3));
}

TEST(Verify, AWrongFirstGuessCostsNothing) {
  const Verdict verdict = verify(chain({7, 1, 8}), std::vector<int32_t>{8, 1, 1});
  EXPECT_THAT(verdict.keep, ElementsAre(0));
  EXPECT_THAT(verdict.emit, ElementsAre(8));
}

TEST(Verify, FollowsTheBranchOfATreeThatTheTargetTakes) {
  //        0:7
  //       /   \.
  //     1:8   2:9
  //     / \     \.
  //   3:5 4:6   5:5
  // After 7 the target takes 9 (row 2), then 5 (row 5), then its own 2. Row 3 holds 5 as well, but
  // below another parent.
  Chunk chunk = chain({7, 8, 9, 5, 6, 5});
  chunk.parents = {-1, 0, 0, 1, 1, 2};
  const Verdict verdict = verify(chunk, std::vector<int32_t>{9, 0, 5, 0, 0, 2});
  EXPECT_THAT(verdict.keep, ElementsAre(0, 2, 5));
  EXPECT_THAT(verdict.emit, ElementsAre(9, 5, 2));
}

TEST(Verify, AStopTokenInsideARunCutsBehindIt) {
  const Sequence sequence = sequence_with_limit(100, {9});
  Verdict verdict = verify(chain({3, 8, 9, 4}), std::vector<int32_t>{8, 9, 4, 6});
  apply_stop(sequence, verdict);
  EXPECT_THAT(verdict.emit, ElementsAre(8, 9));
  EXPECT_EQ(verdict.finish, FinishReason::kStop);
}

TEST(Verify, TheTokenLimitCutsARunAndAStopTokenAtTheLimitIsAStop) {
  // One of three tokens is there: two more may come.
  Verdict verdict = verify(chain({3, 8, 9, 4}), std::vector<int32_t>{8, 9, 4, 6});
  apply_stop(sequence_with_limit(3, {}), verdict);
  EXPECT_THAT(verdict.emit, ElementsAre(8, 9));
  EXPECT_EQ(verdict.finish, FinishReason::kLength);
  Verdict stopped = verify(chain({3, 8, 9, 4}), std::vector<int32_t>{8, 9, 4, 6});
  apply_stop(sequence_with_limit(3, {9}), stopped);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
}

TEST(Verify, APromptStaysWhole) {
  Chunk chunk = chain({1, 2, 3});
  EXPECT_THAT(keep_prompt(chunk, {}).keep, ElementsAre(0, 1, 2));
  EXPECT_TRUE(keep_prompt(chunk, {}).emit.empty());
  EXPECT_THAT(keep_prompt(chunk, std::vector<int32_t>{5}).emit, ElementsAre(5));
}

}  // namespace
}  // namespace aerie
