// Which (row, depth) pairs train. Every expected list here is worked out by hand from the rule: row
// t trains at depth k iff tokens t+1 .. t+k+2 exist in its document and are all the assistant's.
#include "trainer/unroll_plan.h"

#include <gmock/gmock.h>

#include <cmath>

#include "common/error.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using Ids = std::vector<int64_t>;

Ids ids(const Tensor& t) { return {t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel()}; }

/// `turns` draws a batch: '.' a prompt token, 'A' an assistant token, '|' the end of a document.
/// Tokens count from 100.
UnrollPlan plan_of(const std::string& turns, int64_t unroll) {
  std::vector<int64_t> tokens, positions;
  std::vector<bool> mask;
  std::vector<int32_t> starts{0};
  for (const char c : turns) {
    if (c == '|') {
      starts.push_back(static_cast<int32_t>(tokens.size()));
      continue;
    }
    positions.push_back(static_cast<int64_t>(tokens.size()) - starts.back());
    tokens.push_back(100 + static_cast<int64_t>(tokens.size()));
    mask.push_back(c == 'A');
  }
  Tensor loss_mask = at::zeros({static_cast<int64_t>(mask.size())}, at::kBool);
  for (size_t i = 0; i < mask.size(); ++i) loss_mask[static_cast<int64_t>(i)] = bool(mask[i]);
  return plan_unroll(at::tensor(tokens), at::tensor(positions), loss_mask,
                     at::tensor(starts, at::kInt), unroll);
}

/// Batch rows that train at depth k.
Ids rows_at(const UnrollPlan& plan, size_t k) {
  return ids(plan.base_rows.index_select(0, plan.depths.at(k).rows));
}

// Rows:            0123456789abcde
const char* kChat = "...AAAA...AAA..|";  // header, answer of 4, user, answer of 3, trailing text

TEST(UnrollPlan, ListsThePairsOfATwoTurnConversation) {
  const UnrollPlan plan = plan_of(kChat, 7);
  // The answer at 3..6: row 2 (the end of the prompt) reads token 3 and predicts 4, at depth 1 it
  // reads 4 and predicts 5, at depth 2 it predicts 6, the end of the turn; nothing behind it.
  // The answer at 10..12 gives rows 9 and 10 at depth 0, row 9 at depth 1.
  ASSERT_EQ(plan.depths.size(), 3u);
  EXPECT_THAT(rows_at(plan, 0), ElementsAre(2, 3, 4, 9, 10));
  EXPECT_THAT(rows_at(plan, 1), ElementsAre(2, 3, 9));
  EXPECT_THAT(rows_at(plan, 2), ElementsAre(2));
  EXPECT_EQ(plan.pairs, 9);
}

TEST(UnrollPlan, ReadsTheTokenThatTheDraftHasJustProposed) {
  const UnrollPlan plan = plan_of(kChat, 7);
  // Depth 0 makes keys of every base row: each reads the token behind it at its own position.
  EXPECT_THAT(ids(plan.base_rows), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_THAT(ids(plan.depths[0].tokens),
              ElementsAre(101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111));
  EXPECT_THAT(ids(plan.depths[0].positions), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_THAT(ids(plan.depths[1].tokens), ElementsAre(104, 105, 111));
  EXPECT_THAT(ids(plan.depths[1].positions), ElementsAre(3, 4, 10));
  EXPECT_THAT(ids(plan.depths[2].tokens), ElementsAre(105));
  EXPECT_THAT(ids(plan.depths[2].positions), ElementsAre(4));
}

TEST(UnrollPlan, NamesSurvivorsByTheirPlaceInThePreviousDepth) {
  const UnrollPlan plan = plan_of(kChat, 7);
  EXPECT_THAT(ids(plan.depths[1].survivors), ElementsAre(0, 1, 3));
  EXPECT_THAT(ids(plan.depths[2].survivors), ElementsAre(0));
}

TEST(UnrollPlan, LabelsDepthKWithTheRowOfTheTokenItRead) {
  const UnrollPlan plan = plan_of(kChat, 7);
  // Depth k of row t is labelled by what the target says at row t + 1 + k.
  EXPECT_THAT(ids(plan.teacher_rows), ElementsAre(3, 4, 5, 10, 11));
  EXPECT_THAT(ids(plan.teacher_rows.index_select(0, plan.teacher_row)),
              ElementsAre(3, 4, 5, 10, 11, /*depth 1*/ 4, 5, 11, /*depth 2*/ 5));
}

TEST(UnrollPlan, StopsAtTheGivenDepth) {
  const UnrollPlan plan = plan_of("..AAAAAAAA|", 3);
  ASSERT_EQ(plan.depths.size(), 3u);
  EXPECT_THAT(rows_at(plan, 0), ElementsAre(1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(rows_at(plan, 2), ElementsAre(1, 2, 3, 4, 5));
}

TEST(UnrollPlan, NoLabelCrossesADocument) {
  // The second document starts with an answer: its first token is no label of the first document's
  // last row, and no row is left of it to predict it from.
  const UnrollPlan plan = plan_of(".AA|AAA|", 4);
  EXPECT_THAT(rows_at(plan, 0), ElementsAre(0, 3));
  ASSERT_EQ(plan.depths.size(), 1u);
  EXPECT_THAT(ids(plan.teacher_rows), ElementsAre(1, 4));
}

TEST(UnrollPlan, AGapEndsTheChain) {
  // A reasoning token that is not trained on (row 4) stands inside the answer.
  const UnrollPlan plan = plan_of("..AA.AAA|", 4);
  EXPECT_THAT(rows_at(plan, 0), ElementsAre(1, 4, 5));
  EXPECT_THAT(rows_at(plan, 1), ElementsAre(4));
}

TEST(UnrollPlan, DropsDocumentsAndRowsThatNobodyAttendsTo) {
  const UnrollPlan plan = plan_of("....|.AAA...|A..|.AA|", 2);
  EXPECT_THAT(ids(plan.base_rows), ElementsAre(4, 5, 14));
  const int32_t* starts = plan.q_start.data_ptr<int32_t>();
  EXPECT_THAT(std::vector<int32_t>(starts, starts + plan.q_start.numel()), ElementsAre(0, 2, 3));
  EXPECT_THAT(ids(plan.depths[0].rows), ElementsAre(0, 1, 2));
}

TEST(UnrollPlan, SurvivorsAreLeftOutWhereEveryRowSurvives) {
  const UnrollPlan plan = plan_of("..AAA|", 1);
  EXPECT_FALSE(plan.depths[0].survivors.defined());
}

TEST(UnrollPlan, IsEmptyWithoutAssistantTokens) {
  const UnrollPlan plan = plan_of("....|A|.A|", 3);
  EXPECT_EQ(plan.pairs, 0);
  EXPECT_TRUE(plan.depths.empty());
  EXPECT_EQ(plan.teacher_rows.numel(), 0);
}

TEST(UnrollPlan, RefusesNoDepthAtAll) { EXPECT_THROW(plan_of(kChat, 0), Error); }

// ---- sampled depths ----

/// One document of a prompt and `length` assistant tokens.
UnrollPlan sampled_plan(int64_t length, int64_t unroll, double keep, uint64_t key) {
  const int64_t n = length + 2;
  Tensor mask = at::ones({n}, at::kBool);
  mask.narrow(0, 0, 2).zero_();
  return plan_unroll(at::arange(n), at::arange(n), mask,
                     at::tensor({0, static_cast<int>(n)}, at::kInt), unroll, {keep, {key}});
}

TEST(DepthSampling, KeepsEveryRowAtDepthZeroAndAShareOfThemDeeper) {
  const UnrollPlan plan = sampled_plan(20000, 4, 0.5, 7);
  ASSERT_EQ(plan.depths.size(), 4u);
  EXPECT_EQ(plan.depths[0].count, 19999);
  for (size_t k = 0; k < 4; ++k) {
    const UnrollPlan::Depth& depth = plan.depths[k];
    const double share = static_cast<double>(depth.count) / static_cast<double>(depth.valid);
    // Four standard deviations of a binomial share.
    const double expected = std::pow(0.5, static_cast<double>(k));
    EXPECT_NEAR(share, expected, 4 * std::sqrt(expected * (1 - expected) / 20000)) << k;
    EXPECT_EQ(depth.valid, 19999 - static_cast<int64_t>(k));
    EXPECT_DOUBLE_EQ(depth.scale, 1 / expected);
  }
  EXPECT_EQ(plan.valid_pairs, 19999 + 19998 + 19997 + 19996);
  EXPECT_EQ(plan.pairs, plan.teacher_row.numel());
}

// Horvitz and Thompson: a sum over kept rows, each counted 1 / probability, has the full sum as its
// mean. Here of a value that differs from pair to pair.
TEST(DepthSampling, TheReweightedSumIsUnbiased) {
  const auto value = [](int64_t row, size_t k) {
    return std::sin(static_cast<double>(row)) + static_cast<double>(k);
  };
  const auto sum = [&](const UnrollPlan& plan) {
    double total = 0;
    for (size_t k = 0; k < plan.depths.size(); ++k) {
      for (const int64_t row : ids(plan.depths[k].rows))
        total += plan.depths[k].scale * value(row, k);
    }
    return total;
  };
  const double full = sum(sampled_plan(60, 3, 1.0, 0));
  std::vector<double> sums;
  for (uint64_t key = 0; key < 2000; ++key) sums.push_back(sum(sampled_plan(60, 3, 0.6, key)));
  double mean = 0, square = 0;
  for (const double x : sums) mean += x / 2000;
  for (const double x : sums) square += (x - mean) * (x - mean) / 1999;
  EXPECT_NEAR(mean, full, 4 * std::sqrt(square / 2000));
  EXPECT_GT(square, 1.0) << "nothing was sampled";
}

TEST(DepthSampling, DependsOnTheKeyAndThePlaceInTheDocumentOnly) {
  const Ids alone = rows_at(sampled_plan(40, 3, 0.5, 11), 2);
  EXPECT_EQ(alone, rows_at(sampled_plan(40, 3, 0.5, 11), 2));
  EXPECT_NE(alone, rows_at(sampled_plan(40, 3, 0.5, 12), 2));
  // The same document as the second of a pack.
  Tensor mask = at::ones({84}, at::kBool);
  mask.narrow(0, 0, 2).zero_();
  mask.narrow(0, 42, 2).zero_();
  const UnrollPlan pack = plan_unroll(at::arange(84), at::arange(84), mask,
                                      at::tensor({0, 42, 84}, at::kInt), 3, {0.5, {12, 11}});
  Ids second;
  for (const int64_t row : rows_at(pack, 2)) {
    if (row >= 42) second.push_back(row - 42);
  }
  EXPECT_EQ(second, alone);
}

TEST(DepthSampling, ADeeperRowIsAlwaysOneOfTheDepthAbove) {
  const UnrollPlan plan = sampled_plan(200, 5, 0.7, 3);
  for (size_t k = 1; k < plan.depths.size(); ++k) {
    const Ids above = rows_at(plan, k - 1), here = rows_at(plan, k);
    EXPECT_TRUE(std::includes(above.begin(), above.end(), here.begin(), here.end())) << k;
  }
}

}  // namespace
}  // namespace aerie
