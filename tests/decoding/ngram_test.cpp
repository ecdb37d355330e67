#include "decoding/ngram_drafter.h"

#include <gmock/gmock.h>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<int32_t> guess_after(std::vector<int32_t> text, int64_t depth) {
  Sequence sequence;
  sequence.tokens = std::move(text);
  const std::vector<Sequence*> sequences{&sequence};
  NgramDrafter drafter;
  return drafter.guess(sequences, std::vector<GuessShape>{{depth, 1, depth}}).at(0).tokens;
}

TEST(Ngram, GuessesWhatFollowedTheSameWordsBefore) {
  EXPECT_THAT(guess_after({1, 2, 3, 4, 5, 9, 2, 3}, 3), ElementsAre(4, 5, 9));
}

TEST(Ngram, PrefersTheLongerAgreementThenTheLaterPlace) {
  // "2 3" stands before 4, before 6 and before 7; "8 2 3" only before 6.
  EXPECT_THAT(guess_after({2, 3, 4, 8, 2, 3, 6, 1, 2, 3, 7, 8, 2, 3}, 1), ElementsAre(6));
  EXPECT_THAT(guess_after({2, 3, 4, 0, 2, 3, 6, 1, 2, 3}, 1), ElementsAre(6));
}

TEST(Ngram, AnAgreementMayOverlapItself) {
  EXPECT_THAT(guess_after({5, 5, 5, 5}, 4), ElementsAre(5));
}

TEST(Ngram, SaysNothingWhereNothingRepeats) {
  EXPECT_THAT(guess_after({1, 2, 3, 4, 5}, 4), IsEmpty());
  EXPECT_THAT(guess_after({3, 1, 2, 3}, 4), IsEmpty()) << "one token alone is no agreement";
  EXPECT_THAT(guess_after({7}, 4), IsEmpty());
  EXPECT_THAT(guess_after({1, 2, 1, 2}, 0), IsEmpty());
}

TEST(Ngram, RefusesLengthsThatMakeNoSense) {
  EXPECT_THAT(testing::error_of([] { NgramDrafter(3, 2); }), HasSubstr("n-grams of 3 to 2"));
}

}  // namespace
}  // namespace aerie
