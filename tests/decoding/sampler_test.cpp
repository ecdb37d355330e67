#include "decoding/sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "common/error.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Probabilities 0.5 0.25 0.125 0.125 as logits.
const std::vector<float> kHalves{0.0f, std::log(0.5f), std::log(0.25f), std::log(0.25f)};

SamplingParams with_temperature(double temperature) {
  SamplingParams params;
  params.temperature = temperature;
  return params;
}

TEST(Sampler, ArgmaxTakesTheFirstOfEquals) {
  std::vector<float> row(100, -1.0f);
  row[41] = row[77] = 3.0f;
  EXPECT_EQ(argmax(row), 41);
  row[99] = 4.0f;
  EXPECT_EQ(argmax(row), 99);
  EXPECT_EQ(argmax(std::vector<float>{-kInfinity, -2.0f}), 1);
}

TEST(Sampler, RefusesRowsThatAreNotNumbers) {
  EXPECT_THROW(argmax(std::vector<float>(64, std::nanf(""))), Error);
  EXPECT_THROW(argmax(std::vector<float>{1.0f, kInfinity}), Error);
}

TEST(Sampler, LawIsTheSoftmaxAtTheTemperature) {
  const TokenLaw law = token_law(kHalves, with_temperature(1.0));
  ASSERT_THAT(law.ids, ElementsAre(0, 1, 2, 3));
  EXPECT_NEAR(law.probabilities[0], 0.5, 1e-6);
  EXPECT_NEAR(law.probabilities[3], 0.125, 1e-6);
  const TokenLaw flat = token_law(kHalves, with_temperature(2.0));
  EXPECT_NEAR(flat.probabilities[0] / flat.probabilities[2], 2.0, 1e-5);
}

TEST(Sampler, TopKTopPAndMinPCutAsDefined) {
  SamplingParams params = with_temperature(1.0);
  params.top_k = 3;  // of the two equal ones the lower id stays
  EXPECT_THAT(token_law(kHalves, params).ids, ElementsAre(0, 1, 2));
  params = with_temperature(1.0);
  params.top_p = 0.7;
  EXPECT_THAT(token_law(kHalves, params).ids, ElementsAre(0, 1));
  params.top_p = 0.01;  // the first one always stays
  EXPECT_THAT(token_law(kHalves, params).ids, ElementsAre(0));
  params = with_temperature(1.0);
  params.min_p = 0.4;
  EXPECT_THAT(token_law(kHalves, params).ids, ElementsAre(0, 1));
  params = with_temperature(1.0);
  params.top_k = 3;
  params.top_p = 0.8;  // of what top-k left (0.875): 0.5 + 0.25 = 0.857 of it
  EXPECT_THAT(token_law(kHalves, params).ids, ElementsAre(0, 1));
}

TEST(Sampler, TopPOfALargeFlatVocabularyEqualsAFullSort) {
  std::vector<float> row(5000);
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = static_cast<float>(3 * counter_uniform(1, i));
  }
  SamplingParams params = with_temperature(1.0);
  const TokenLaw all = token_law(row, params);
  params.top_p = 0.6;
  const TokenLaw cut = token_law(row, params);
  std::vector<double> sorted = all.probabilities;
  std::sort(sorted.rbegin(), sorted.rend());
  double reached = 0;
  size_t count = 0;
  while (reached < 0.6) reached += sorted[count++];
  EXPECT_EQ(cut.ids.size(), count);
}

TEST(Sampler, UniformIsAFunctionOfItsArguments) {
  EXPECT_EQ(counter_uniform(5, 9), counter_uniform(5, 9));
  EXPECT_NE(counter_uniform(5, 9), counter_uniform(5, 10));
  EXPECT_NE(counter_uniform(5, 9), counter_uniform(6, 9));
  double sum = 0, squares = 0;
  constexpr int kNumbers = 100000;
  for (int i = 0; i < kNumbers; ++i) {
    const double u = counter_uniform(11, i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / kNumbers, 0.5, 0.005);
  EXPECT_NEAR(squares / kNumbers, 1.0 / 3, 0.005);
}

TEST(Sampler, DrawsFollowTheLaw) {
  const SamplingParams params = with_temperature(1.0);
  std::vector<double> counts(4);
  constexpr int kNumbers = 40000;
  for (int i = 0; i < kNumbers; ++i) counts[choose_token(kHalves, params, i)] += 1.0 / kNumbers;
  EXPECT_NEAR(counts[0], 0.5, 0.015);
  EXPECT_NEAR(counts[1], 0.25, 0.015);
  EXPECT_NEAR(counts[2], 0.125, 0.01);
}

TEST(Sampler, DrawNeverReturnsAnImpossibleToken) {
  const TokenLaw law{{3, 5, 8}, {0.0, 0.6, 0.4 - 1e-12}};
  EXPECT_EQ(draw(law, 0.0), 5);
  EXPECT_EQ(draw(law, 0.9999999999999), 8);
}

TEST(Sampler, RowsOfABatchAreChosenAsAlone) {
  const Tensor logits = at::randn({7, 333});
  std::vector<SamplingParams> params(7);
  std::vector<RowRule> rules;
  for (int64_t row = 0; row < 7; ++row) {
    params[row].temperature = row % 2 ? 0.8 : 0.0;
    params[row].seed = row;
    rules.push_back({&params[row], 10 + row});
  }
  const std::vector<int32_t> chosen = choose_tokens(logits, rules);
  for (int64_t row = 0; row < 7; ++row) {
    const std::span<const float> line(logits.const_data_ptr<float>() + row * 333, 333);
    EXPECT_EQ(chosen[row], choose_token(line, params[row], 10 + row));
  }
}

}  // namespace
}  // namespace aerie
