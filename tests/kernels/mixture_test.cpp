// Mixtures of experts and windows of packed attention against their formulas.
#include <gtest/gtest.h>

#include "kernels/composed.h"
#include "tests/kernels/golden.h"
#include "tests/kernels/ragged_helpers.h"

namespace aerie::ops {
namespace {

constexpr int64_t kHidden = 64, kInner = 96, kExperts = 7;

class Mixture : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    at::manual_seed(1);
    for (int64_t e = 0; e < kExperts; ++e) {
      gate_up_.push_back((at::randn({2 * kInner, kHidden}) / 8).to(GetParam()));
      down_.push_back((at::randn({kHidden, kInner}) / 8).to(GetParam()));
      experts_.push_back({pack_linear(gate_up_.back()), pack_linear(down_.back())});
    }
  }
  /// Row by row, in f64.
  Tensor formula(const Tensor& x, const Tensor& chosen, const Tensor& weights) const {
    Tensor out = at::zeros(x.sizes(), at::kDouble);
    for (int64_t n = 0; n < x.size(0); ++n) {
      for (int64_t c = 0; c < chosen.size(1); ++c) {
        const int64_t e = chosen[n][c].item<int64_t>();
        const auto halves = gate_up_[e].to(at::kDouble).mv(x[n].to(at::kDouble)).chunk(2);
        out[n] += down_[e].to(at::kDouble).mv(at::silu(halves[0]) * halves[1]) * weights[n][c];
      }
    }
    return out;
  }

  std::vector<Tensor> gate_up_, down_;
  std::vector<Expert> experts_;
};

TEST_P(Mixture, FollowsTheFormula) {
  for (const int64_t rows : {1, 5, 40}) {
    const Tensor x = at::randn({rows, kHidden}).to(GetParam());
    // Expert 3 is never chosen, expert 0 by every row.
    const Tensor chosen = at::stack(
        {at::zeros({rows}, at::kLong), at::arange(rows) % 3 + 4, at::arange(rows) % 2 + 1}, 1);
    const Tensor weights = at::rand({rows, 3});
    const Tensor out = mixture(x, chosen, weights, experts_);
    EXPECT_EQ(out.scalar_type(), GetParam());
    const double tolerance = GetParam() == at::kFloat ? 1e-5 : 1e-2;
    EXPECT_LE(testing::relative_error(out, formula(x, chosen, weights)), tolerance);
  }
}

TEST_P(Mixture, RefusesWhatIsNoExpert) {
  const Tensor x = at::randn({2, kHidden}).to(GetParam());
  const Tensor weights = at::ones({2, 1});
  EXPECT_ANY_THROW(mixture(x, at::ones({3, 1}, at::kLong), weights, experts_));
  EXPECT_ANY_THROW(mixture(x, at::full({2, 1}, kExperts, at::kLong), weights, experts_));
}

INSTANTIATE_TEST_SUITE_P(Types, Mixture, ::testing::Values(at::kFloat, at::kBFloat16));

/// Decoding one row and a prompt of many gives each row the same bits: speculation depends on it.
TEST(MixtureBf16, ARowDoesNotDependOnTheOthers) {
  at::manual_seed(2);
  std::vector<Expert> experts;
  for (int64_t e = 0; e < kExperts; ++e) {
    experts.push_back({pack_linear(at::randn({2 * kInner, kHidden}).to(at::kBFloat16)),
                       pack_linear(at::randn({kHidden, kInner}).to(at::kBFloat16))});
  }
  const Tensor x = at::randn({50, kHidden}).to(at::kBFloat16), weights = at::rand({50, 2});
  const Tensor chosen = at::randint(kExperts, {50, 2}, at::kLong);
  const Tensor together = mixture(x, chosen, weights, experts);
  for (const int64_t row : {0, 7, 49}) {
    const auto one = [row](const Tensor& all) { return all.slice(0, row, row + 1); };
    EXPECT_TRUE(at::equal(mixture(one(x), one(chosen), one(weights), experts), one(together)));
  }
}

TEST(Geglu, IsGeluTimesUp) {
  const Tensor x = at::randn({5, 12}, at::kDouble);
  const auto halves = x.chunk(2, 1);
  const Tensor inner = halves[0] * 0.7978845608028654 * (1 + 0.044715 * halves[0].square());
  const Tensor expected = 0.5 * halves[0] * (1 + inner.tanh()) * halves[1];
  EXPECT_LE(testing::relative_error(geglu(x.to(at::kFloat)), expected), 1e-6);
}

class PackedWindow : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(PackedWindow, RowsSeeTheLatestTokensOfTheirDocument) {
  at::manual_seed(3);
  const std::vector<int64_t> start{0, 300, 310};
  constexpr int64_t kRows = 310, kWindow = 33;
  const Tensor q = at::randn({kRows, 4, 32}).to(GetParam()),
               k = at::randn({kRows, 2, 32}).to(GetParam()),
               v = at::randn({kRows, 2, 32}).to(GetParam());
  const Tensor out =
      packed_attention(q, k, v, at::tensor(start, at::kLong).to(at::kInt), 0.2, kWindow);
  for (const int64_t row : {0, 20, 32, 33, 34, 255, 256, 299, 300, 309}) {
    std::vector<int64_t> seen;
    for (int64_t t = row < 300 ? 0 : 300; t <= row; ++t) {
      if (t > row - kWindow) seen.push_back(t);
    }
    const Tensor expected = attend_row(q[row], k, v, seen, 0.2);
    const double error = (out[row].to(at::kFloat) - expected).abs().max().item<double>();
    EXPECT_LE(error, GetParam() == at::kFloat ? 2e-5 : 2e-2) << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, PackedWindow, ::testing::Values(at::kFloat, at::kBFloat16));

}  // namespace
}  // namespace aerie::ops
