// Gradients of the trainer's ops against central differences in f64: they check the mathematics
// without any reference.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/kernels/golden.h"

namespace aerie {
namespace {

const auto kDoubles = at::TensorOptions().dtype(at::kDouble);
using Function = std::function<Tensor(const std::vector<Tensor>&)>;

/// Compares every input's gradient of f (a scalar) with differences of the fourth order along
/// random directions.
void check_differences(const std::vector<Tensor>& values, const Function& f) {
  constexpr double kStep = 1e-4;
  std::vector<Tensor> inputs;
  for (const Tensor& value : values) inputs.push_back(testing::leaf(value, at::kDouble));
  f(inputs).backward();
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < inputs.size(); ++i) {
    ASSERT_TRUE(inputs[i].grad().defined()) << "input " << i;
    for (int trial = 0; trial < 4; ++trial) {
      const Tensor direction = at::randn(inputs[i].sizes(), kDoubles);
      const auto at_offset = [&](double offset) {
        std::vector<Tensor> moved = inputs;
        moved[i] = inputs[i].detach() + direction * offset;
        return f(moved).item<double>();
      };
      const double near = at_offset(kStep) - at_offset(-kStep),
                   far = at_offset(2 * kStep) - at_offset(-2 * kStep);
      const double slope = (8 * near - far) / (12 * kStep);
      const double expected = (inputs[i].grad() * direction).sum().item<double>();
      EXPECT_NEAR(expected, slope, 1e-7 * std::max(1.0, std::abs(slope))) << "input " << i;
    }
  }
}

class TttDifferences : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(Windows, TttDifferences, ::testing::Values(0, 3));

TEST_P(TttDifferences, GradientIsTheSlope) {
  const int64_t n = 11, r = 6, heads = 4, kv_heads = 2, d = 8;
  const Tensor rows = at::tensor({0, 2, 3, 6, 9, 10}, at::kLong),
               q_start = at::tensor({0, 4, 11}, at::kInt);
  std::vector<Tensor> values = {at::randn({r, heads, d}, kDoubles),
                                at::randn({n, kv_heads, d}, kDoubles),
                                at::randn({n, kv_heads, d}, kDoubles)};
  for (int i = 0; i < 4; ++i) values.push_back(at::randn({r, kv_heads, d}, kDoubles));
  const Tensor weight = at::randn({r, heads, d}, kDoubles);
  check_differences(values, [&](const std::vector<Tensor>& x) {
    const Tensor out = ops::ttt_attention(x[0], rows, x[1], x[2], q_start, {x[3], x[4]},
                                          {x[5], x[6]}, 0.4, GetParam());
    return (out * weight).sum();
  });
}

class LossDifferences : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Losses, LossDifferences,
                         ::testing::Values("kl", "reverse_kl", "js", "ce", "tv", "lk_alpha",
                                           "lk_lambda", "0.6 kl + 0.4 tv"));

TEST_P(LossDifferences, GradientIsTheSlope) {
  ops::LossMix mix = ops::parse_loss(GetParam(), "train.loss");
  // Held fixed in the gradient, w may not move in the difference either.
  mix.lk_scale = 0.3;
  mix.lk_decay = 0;

  const int64_t vocab = 40, draft_vocab = 12, c = 16, teachers = 3, students = 7;
  const Tensor target_of = at::arange(1, 37, 3, at::kLong);
  Tensor draft_of = at::full({vocab}, -1, at::kLong);
  draft_of.index_put_({target_of}, at::arange(draft_vocab, at::kLong));
  ops::LinearWeight teacher_head;
  teacher_head.weight = at::randn({vocab, c}, kDoubles);
  teacher_head.out_features = vocab, teacher_head.in_features = c;
  // The first teacher row's argmax is inside the draft vocabulary, so that at least one loss
  // counts.
  Tensor teacher_hidden = at::randn({teachers, c}, kDoubles);
  teacher_hidden[0] = teacher_head.weight[target_of[5].item<int64_t>()] * 4;
  const ops::Teacher teacher{teacher_hidden, &teacher_head, target_of, draft_of};
  const Tensor teacher_row = at::tensor({0, 2, 1, 0, 0, 2, 1}, at::kLong),
               weight = at::rand({students}, kDoubles);
  check_differences({at::randn({students, c}, kDoubles), at::randn({draft_vocab, c}, kDoubles)},
                    [&](const std::vector<Tensor>& x) {
                      ops::LinearWeight head;
                      head.weight = x[1];
                      head.out_features = draft_vocab, head.in_features = c;
                      return ops::head_loss(x[0], head, teacher, teacher_row, weight, mix).total;
                    });
}

}  // namespace
}  // namespace aerie
