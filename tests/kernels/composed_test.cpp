// The compositions against independent scalar loops: what every faster kernel is then compared
// with.
#include "kernels/composed.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/error.h"

namespace aerie::ops {
namespace {

TEST(Composed, RmsNormFollowsItsFormula) {
  const Tensor x = at::tensor({3.f, 4.f, 0.f, 0.f}).view({1, 4}),
               weight = at::tensor({1.f, 2.f, 1.f, 1.f});
  const Tensor y = ops::rms_norm(x, weight, 0.0);
  // mean(x^2) = 25/4, so x is divided by 2.5
  EXPECT_TRUE(at::allclose(y, at::tensor({1.2f, 3.2f, 0.f, 0.f}).view({1, 4})));
}

TEST(Composed, AddRmsNormKeepsTheSum) {
  at::manual_seed(1);
  Tensor residual = at::randn({3, 8});
  const Tensor x = at::randn({3, 8}), weight = at::rand({8}), sum = residual + x;
  const Tensor y = add_rms_norm_(residual, x, weight, 1e-5);
  EXPECT_TRUE(at::equal(residual, sum));
  EXPECT_TRUE(at::allclose(y, ops::rms_norm(sum, weight, 1e-5)));
}

TEST(Composed, SwigluTakesTheGateFirst) {
  const Tensor y = swiglu(at::tensor({1.f, -2.f, 10.f, 5.f}).view({1, 4}));
  const float expected[] = {10.f / (1 + std::exp(-1.f)), -2.f / (1 + std::exp(2.f)) * 5.f};
  EXPECT_NEAR(y[0][0].item<float>(), expected[0], 1e-5);
  EXPECT_NEAR(y[0][1].item<float>(), expected[1], 1e-5);
}

TEST(Composed, RopeRotatesHalfSplitPairs) {
  at::manual_seed(2);
  const Tensor frequencies = at::tensor({1.f, 0.1f});
  const RopeTable table = make_rope_table(frequencies, 8, 1.5);
  const Tensor x = at::randn({2, 3, 4}), positions = at::tensor({7, 2}, at::kLong),
               y = rope(x, positions, table);
  for (int64_t n = 0; n < 2; ++n) {
    for (int64_t h = 0; h < 3; ++h) {
      for (int64_t i = 0; i < 2; ++i) {
        const double angle = positions[n].item<int64_t>() * (i == 0 ? 1.0 : 0.1);
        const double a = x[n][h][i].item<float>(), b = x[n][h][i + 2].item<float>();
        EXPECT_NEAR(y[n][h][i].item<float>(), 1.5 * (a * std::cos(angle) - b * std::sin(angle)),
                    1e-5);
        EXPECT_NEAR(y[n][h][i + 2].item<float>(), 1.5 * (b * std::cos(angle) + a * std::sin(angle)),
                    1e-5);
      }
    }
  }
}

TEST(Composed, EmbeddingPicksRows) {
  const Tensor weight = at::arange(12, at::kFloat).view({4, 3});
  EXPECT_TRUE(at::equal(ops::embedding(at::tensor({3, 0, 3}, at::kLong), weight),
                        at::stack({weight[3], weight[0], weight[3]})));
}

TEST(Composed, MessagesNameTheShapes) {
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([] {
              linear(at::zeros({2, 3}), pack_linear(at::zeros({5, 4})));
            }),
            "linear: x has shape [2,3] where [-1,4] is needed (-1: any)");
  EXPECT_EQ(message([] {
              rms_norm(at::zeros({2, 3}), at::zeros({4}), 1e-5);
            }),
            "rms_norm: weight has shape [4] where [3] is needed (-1: any)");
  EXPECT_EQ(message([] {
              rms_norm(at::zeros({2, 3}, at::kHalf), at::zeros({3}), 1e-5);
            }),
            "rms_norm: x must be a bf16 or f32 tensor");
}

}  // namespace
}  // namespace aerie::ops
