// The tree of EAGLE-2 on numbers worked by hand, and against brute force.
#include "decoding/guess_tree.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

namespace aerie {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

TopTokens top_of(std::vector<int32_t> ids, const std::vector<double>& chances) {
  TopTokens top{std::move(ids), {}};
  for (const double chance : chances) {
    top.log_probabilities.push_back(static_cast<float>(std::log(chance)));
  }
  return top;
}

TEST(GuessTree, ExpandsTheLikeliestAndKeepsTheLikeliestOfAllLevels) {
  GuessTree tree({2, 2, 4});
  // Level 1: a 0.6, b 0.3.
  tree.grow(std::vector{top_of({10, 11}, {0.6, 0.3})});
  ASSERT_TRUE(tree.growing());
  EXPECT_EQ(tree.frontier(), 2);
  EXPECT_EQ(tree.token(0), 10);
  // Level 2: a's children 0.6 * 0.5 and 0.6 * 0.1, b's 0.3 * 0.9 and 0.3 * 0.05.
  tree.grow(std::vector{top_of({20, 21}, {0.5, 0.1}), top_of({22, 23}, {0.9, 0.05})});
  EXPECT_FALSE(tree.growing());
  EXPECT_EQ(tree.origin(0), 0);
  EXPECT_EQ(tree.origin(1), 1);
  // The best four: a .6, b .3, a-20 .3, b-22 .27. Each branch is followed to its end.
  const Guess guess = tree.best();
  EXPECT_THAT(guess.tokens, ElementsAre(10, 20, 11, 22));
  EXPECT_THAT(guess.parents, ElementsAre(-1, 0, -1, 2));
  EXPECT_THAT(guess.chances, ElementsAre(FloatNear(0.6f, 1e-5f), FloatNear(0.3f, 1e-5f),
                                         FloatNear(0.3f, 1e-5f), FloatNear(0.27f, 1e-5f)));
}

TEST(GuessTree, RandomTreesHangTogetherAndKeepTheBest) {
  std::mt19937 random(4);
  for (int round = 0; round < 200; ++round) {
    const GuessShape shape{1 + static_cast<int64_t>(random() % 5),
                           1 + static_cast<int64_t>(random() % 4),
                           1 + static_cast<int64_t>(random() % 20)};
    GuessTree tree(shape);
    std::vector<double> scores;       // of every node that was ever made
    std::vector<double> frontier{0};  // of what is grown next
    int64_t levels = 0;
    for (; tree.growing(); ++levels) {
      std::vector<TopTokens> children;
      for (const double before : frontier) {
        std::vector<double> chances;
        for (int64_t c = 0; c < shape.width; ++c) chances.push_back((1 + random() % 100) / 400.0);
        std::sort(chances.rbegin(), chances.rend());
        for (const double chance : chances) scores.push_back(before + std::log(chance));
        std::vector<int32_t> ids(shape.width);
        for (int32_t& id : ids) id = static_cast<int32_t>(random() % 1000);
        children.push_back(top_of(ids, chances));
      }
      std::vector<double> added(scores.end() - static_cast<int64_t>(frontier.size()) * shape.width,
                                scores.end());
      std::sort(added.rbegin(), added.rend());
      tree.grow(children);
      added.resize(std::min<size_t>(added.size(), shape.width));
      // In the tree's own order; ties may stand either way round.
      frontier.assign(tree.frontier(), 0);
      ASSERT_EQ(frontier.size(), added.size());
      frontier = added;
    }
    EXPECT_EQ(levels, shape.depth);
    const Guess guess = tree.best();
    std::sort(scores.rbegin(), scores.rend());
    const size_t count = std::min<size_t>(scores.size(), shape.nodes);
    ASSERT_EQ(guess.tokens.size(), count);
    double sum = 0, best = 0;
    for (size_t i = 0; i < count; ++i) {
      EXPECT_LT(guess.parents[i], static_cast<int32_t>(i));
      if (guess.parents[i] >= 0) {
        EXPECT_LE(guess.chances[i], guess.chances[guess.parents[i]] * 1.0001f);
      }
      sum += std::log(guess.chances[i]);
      best += scores[i];
    }
    EXPECT_NEAR(sum, best, 1e-3 * count);
  }
}

TEST(TopTokens, AreThoseOfASort) {
  at::manual_seed(2);
  Tensor logits = at::randn({7, 300});
  logits[3][17] = logits[3][250] = 9;  // equals: the smaller id first
  const std::vector<TopTokens> top = top_tokens(logits, 6);
  const auto [values, ids] = at::log_softmax(logits, 1).topk(6, 1);
  for (int64_t row = 0; row < 7; ++row) {
    for (int64_t i = 0; i < 6; ++i) {
      EXPECT_NEAR(top[row].log_probabilities[i], values[row][i].item<float>(), 1e-5);
      if (row != 3) {
        EXPECT_EQ(top[row].ids[i], ids[row][i].item<int64_t>());
      }
    }
  }
  EXPECT_EQ(top[3].ids[0], 17);
  EXPECT_EQ(top[3].ids[1], 250);
}

}  // namespace
}  // namespace aerie
