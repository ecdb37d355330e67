// The table of step costs, and what adaptive depth makes of it.
#include "decoding/step_cost.h"

#include <gmock/gmock.h>

#include "decoding/adaptive_depth.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StepCost, IsALineBetweenPointsAndBeyondThem) {
  const StepCost cost({{1, 10}, {16, 10}, {32, 26}}, {{1, 1}, {11, 2}});
  EXPECT_DOUBLE_EQ(cost.seconds(8, 0), 10);
  EXPECT_DOUBLE_EQ(cost.seconds(24, 0), 18);
  EXPECT_DOUBLE_EQ(cost.seconds(48, 0), 42);
  EXPECT_DOUBLE_EQ(cost.seconds(16, 6), 11.5);
  EXPECT_EQ(cost.rows_within(18, {}, 0), 24);
  EXPECT_EQ(cost.rows_within(9, {}, 0), 0);
}

TEST(StepCost, CountsThePastOfSequences) {
  const StepCost cost({{1, 10}, {11, 20}}, {{1, 0}}, {0.01, 0.001});
  // 4 rows, 200 keys of earlier steps, each row with 100 of them.
  EXPECT_DOUBLE_EQ(cost.seconds({4, 0, 200, 400}), 13 + 2 + 0.4);
  // 13 + 2 for 4 rows, and each further one costs 1 and its own 100 keys.
  EXPECT_EQ(cost.rows_within(15.4, {0, 0, 200, 0}, 100), 4);
  EXPECT_EQ(cost.rows_within(16.4, {0, 0, 200, 0}, 100), 4);
  EXPECT_EQ(cost.rows_within(16.6, {0, 0, 200, 0}, 100), 5);
  EXPECT_THAT(testing::error_of([] {
                StepCost({{1, 1}}, {{1, 1}}, {-1, 0});
              }),
              HasSubstr("neither can be negative"));
}

TEST(StepCost, IsReadAsItWasWritten) {
  const testing::Scratch scratch;
  StepCost cost({{1, 0.01}, {11, 0.02}}, {{1, 0.001}, {2, 0.003}}, {1e-6, 2e-7});
  cost.observe({1, 0}, 1);  // what a busy hour taught is not kept
  cost.write(scratch / "clock.json");
  const StepCost read = StepCost::read(scratch / "clock.json");
  EXPECT_DOUBLE_EQ(read.seconds({6, 2, 1000, 5000}), 0.015 + 0.003 + 1e-3 + 1e-3);
  const auto error = [&](const std::string& content) {
    return testing::error_of([&] { StepCost::read(scratch.write("bad.json", content)); });
  };
  EXPECT_THAT(error("{}"), HasSubstr("bad.json is not a table of step costs"));
  EXPECT_THAT(error("["), HasSubstr("bad.json is not a table of step costs"));
  EXPECT_THAT(error(R"({"layers": [[2, 1], [1, 1]], "head": [[1, 1]], "cache_row": 0, "pair": 0})"),
              HasSubstr("not ascending in rows: 1 after 2"));
  EXPECT_THAT(error(R"({"layers": [[1, 0]], "head": [[1, 1]], "cache_row": 0, "pair": 0})"),
              HasSubstr("bad.json: 1 rows take 0 s"));
}

TEST(StepCost, LevelsATableThatFalls) {
  const StepCost cost({{1, 10}, {2, 9}, {3, 8}, {4, 12}}, {{1, 0}});
  EXPECT_DOUBLE_EQ(cost.seconds(1, 0), 8) << "noise only adds";
  EXPECT_DOUBLE_EQ(cost.seconds(3, 0), 8);
  EXPECT_DOUBLE_EQ(cost.seconds(4, 0), 12);
}

TEST(StepCost, FollowsAMachineThatGetsSlower) {
  StepCost cost({{1, 10}, {100, 109}}, {{1, 0}});
  for (int i = 0; i < 3000; ++i) cost.observe({11, 0}, 40);
  EXPECT_NEAR(cost.correction(), 2, 0.01);
  EXPECT_NEAR(cost.seconds(91, 0), 200, 2);
}

TEST(StepCost, LearnsThatOneNumberOfRowsIsDearerThanTheTableSays) {
  StepCost cost({{1, 10}, {8, 10}, {16, 12}, {100, 100}}, {{1, 0}});
  for (int i = 0; i < 400; ++i) {
    cost.observe({8, 0}, 10);
    cost.observe({16, 0}, 16);
  }
  EXPECT_NEAR(cost.seconds(8, 0), 10, 0.4);
  EXPECT_NEAR(cost.seconds(16, 0), 16, 0.6);
  EXPECT_NEAR(cost.seconds(12, 0), 13, 0.5) << "between them";
  for (int i = 0; i < 3000; ++i) cost.observe({8, 0}, 10);
  EXPECT_NEAR(cost.seconds(16, 0), 12, 0.2) << "forgotten when it is not seen any more";
}

TEST(StepCost, RefusesATableInDisorder) {
  EXPECT_THAT(testing::error_of([] {
                StepCost({{2, 1}, {1, 1}}, {{1, 1}});
              }),
              HasSubstr("step costs of the layers are not ascending"));
  EXPECT_THAT(testing::error_of([] { StepCost({}, {{1, 1}}); }), HasSubstr("no entry"));
}

class Adaptive : public ::testing::Test {
 protected:
  std::vector<int64_t> depths(size_t sequences, const StepCost& cost, int64_t late_rows = 0) {
    std::vector<Sequence> all(sequences);
    std::vector<Sequence*> pointers;
    for (Sequence& sequence : all) pointers.push_back(&sequence);
    RowBudget budget{512};
    budget.cost = &cost;
    std::vector<int64_t> chosen;
    depth_.choose(pointers, std::vector<int64_t>(sequences, 5),
                  std::vector<int64_t>(sequences, late_rows), budget, chosen);
    return chosen;
  }
  void teach(double rate) {
    for (int i = 0; i < 4000; ++i) {
      for (int64_t depth = 0; depth < 5; ++depth) {
        depth_.judged(depth, (i * 7919 + depth * 104729) % 1000 < 1000 * rate);
      }
    }
  }
  AdaptiveDepth depth_{5};
  // Rows are free up to 16 and then cost a fifth of a step each.
  const StepCost knee_{{{1, 1.0}, {16, 1.0}, {32, 4.2}}, {{1, 0.0}}};
};

TEST_F(Adaptive, GuessesDeepWhereRowsAreFreeAndNotAtAllUnderLoad) {
  teach(0.8);
  EXPECT_THAT(depths(1, knee_), ElementsAre(5));
  EXPECT_THAT(depths(2, knee_), Each(5));
  EXPECT_THAT(depths(16, knee_), Each(0));
  // It comes back as soon as the load goes.
  EXPECT_THAT(depths(1, knee_), ElementsAre(5));
}

TEST_F(Adaptive, BetweenTheTwoItFillsTheFreeRows) {
  teach(0.8);
  int64_t rows = 0;
  for (const int64_t depth : depths(6, knee_)) rows += 1 + depth;
  EXPECT_EQ(rows, 16);
}

TEST_F(Adaptive, StopsWhereGuessesFailAndTriesAgainLater) {
  teach(0.0);
  EXPECT_THAT(depths(1, knee_), ElementsAre(0));
  int64_t tried = 0;
  for (int i = 0; i < 3000; ++i) tried += depths(1, knee_)[0];
  EXPECT_GT(tried, 0) << "it never looks again";
}

TEST_F(Adaptive, ASequenceThatGoesWellGetsMoreThanOneThatDoesNot) {
  teach(0.5);
  std::vector<Sequence> all(2);
  all[0].stats.reached = {50, 45, 40, 38, 36};
  all[0].stats.accepted = {45, 40, 38, 36, 34};
  all[1].stats.reached = {50, 5, 1, 0, 0};
  all[1].stats.accepted = {5, 1, 0, 0, 0};
  const std::vector<Sequence*> pointers{&all[0], &all[1]};
  RowBudget budget{8};
  budget.cost = &knee_;
  std::vector<int64_t> chosen;
  depth_.choose(pointers, std::vector<int64_t>{5, 5}, std::vector<int64_t>{0, 0}, budget, chosen);
  EXPECT_GT(chosen[0], chosen[1] + 2);
  EXPECT_LE(chosen[0] + chosen[1], 6);
}

TEST(BestOffer, IsTheMostTokensASecond) {
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 10}, {7, 12, 12}, {8, 15, 15}}, 1.05), 1);
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 10}, {4.6, 11, 11}}, 1.05), 0) << "4 % more";
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 10}, {4.6, 11, 11}}, 1.02), 1);
}

TEST(BestOffer, PromptsBesideMakeNoGuessWorthMore) {
  // 4 tokens in 10 s: a token is worth 2.5 s, and the guess gives half of one for 2 s.
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 10}, {4.5, 12, 12}}, 1.0), 0);
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 90}, {4.5, 12, 92}}, 1.0), 0);
  // Beside prompts its row is cheaper than alone.
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 90}, {4.5, 12, 91}}, 1.0), 1);
  EXPECT_EQ(best_offer(std::vector<Offer>{{4, 10, 90}, {4.5, 12, 91.1}}, 1.2), 0);
}

TEST_F(Adaptive, WritingWhatGatheredIsNoGoodForALittle) {
  teach(0.3);
  EXPECT_THAT(depths(1, knee_, 100), ElementsAre(::testing::Gt(0)));
  // A row that is written late takes a tenth of a step: a thousand are three steps' time a step.
  for (int i = 0; i < 100; ++i) depth_.drafted(1, 1, 100, 10.0, knee_);
  EXPECT_THAT(depths(1, knee_, 1000), ElementsAre(0));
  EXPECT_THAT(depths(1, knee_), ElementsAre(::testing::Gt(0)));
}

TEST_F(Adaptive, DraftingThatCostsMoreThanItSavesIsLeft) {
  teach(0.8);
  for (int i = 0; i < 100; ++i) depth_.drafted(1, 1, 0, 4.0, knee_);  // two steps a level
  EXPECT_THAT(depths(1, knee_), ElementsAre(0));
}

}  // namespace
}  // namespace aerie
