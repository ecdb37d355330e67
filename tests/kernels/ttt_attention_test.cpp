// The bf16 attention of the trainer against the composed definition in f32, at the shapes of real
// packs.
#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <numeric>

#include "common/threads.h"
#include "kernels/cpu/isa.h"
#include "kernels/training.h"
#include "tests/kernels/golden.h"

namespace aerie {
namespace {

using testing::norm_error;

struct Shape {
  int64_t heads, kv_heads, d;
  std::vector<int64_t> documents;
  double supervised;  // share of rows that query
  int steps;
  int64_t window = 0;
};

struct Case {
  ops::AttentionInputs in;
  Tensor d_out;
};

Tensor random(at::IntArrayRef sizes) { return at::randn(sizes).to(at::kBFloat16); }

Case make_case(const Shape& shape) {
  at::manual_seed(5);
  const int64_t n = std::accumulate(shape.documents.begin(), shape.documents.end(), int64_t{0});
  const auto r = static_cast<int64_t>(static_cast<double>(n) * shape.supervised);
  std::vector<int32_t> starts = {0};
  for (int64_t length : shape.documents)
    starts.push_back(starts.back() + static_cast<int32_t>(length));
  Case result;
  result.in = {random({r, shape.heads, shape.d}),
               std::get<0>(at::randperm(n, at::kLong).slice(0, 0, r).sort()),
               random({n, shape.kv_heads, shape.d}),
               random({n, shape.kv_heads, shape.d}),
               at::tensor(starts, at::kInt),
               {},
               {},
               1 / std::sqrt(static_cast<double>(shape.d)),
               shape.window};
  for (int s = 0; s < shape.steps; ++s) {
    result.in.k_steps.push_back(random({r, shape.kv_heads, shape.d}));
    result.in.v_steps.push_back(random({r, shape.kv_heads, shape.d}));
  }
  result.d_out = random({r, shape.heads, shape.d});
  return result;
}

std::vector<Tensor> leaves(const Case& c, at::ScalarType type) {
  std::vector<Tensor> result;
  for (const Tensor& x : {c.in.q, c.in.k, c.in.v}) result.push_back(testing::leaf(x, type));
  for (const Tensor& x : c.in.k_steps) result.push_back(testing::leaf(x, type));
  for (const Tensor& x : c.in.v_steps) result.push_back(testing::leaf(x, type));
  return result;
}

/// Output and all gradients.
std::vector<Tensor> run(const Case& c, at::ScalarType type) {
  std::vector<Tensor> x = leaves(c, type);
  const auto middle = x.begin() + 3 + static_cast<std::ptrdiff_t>(c.in.k_steps.size());
  const Tensor out =
      ops::ttt_attention(x[0], c.in.rows, x[1], x[2], c.in.q_start, {x.begin() + 3, middle},
                         {middle, x.end()}, c.in.scale, c.in.window);
  out.backward(c.d_out.to(type));
  std::vector<Tensor> result = {out.detach()};
  for (const Tensor& leaf : x) result.push_back(leaf.grad());
  return result;
}

const std::vector<Shape> kShapes = {
    {9, 3, 64, {300, 250, 497, 1, 33}, 0.6, 6},  // SmolLM2's draft
    {9, 3, 64, {64}, 1.0, 0},
    {4, 4, 32, {40, 17}, 0.5, 1},
    {6, 2, 96, {100, 31}, 0.7, 2},
    {8, 1, 128, {150}, 0.3, 3},
    {9, 3, 64, {300, 250, 497, 1, 33}, 0.6, 6, 100},
    {9, 3, 64, {200, 64, 90}, 1.0, 2, 64},
    {4, 4, 32, {70, 17}, 0.2, 1, 5},
    {4, 2, 32, {130}, 0.8, 1, 1},
};

TEST(TttAttention, Bf16AgreesWithF32) {
  for (const Shape& shape : kShapes) {
    const Case c = make_case(shape);
    const std::vector<Tensor> fast = run(c, at::kBFloat16), exact = run(c, at::kFloat);
    for (size_t i = 0; i < fast.size(); ++i) {
      EXPECT_LT(norm_error(fast[i], exact[i]), 0.01)
          << "tensor " << i << " of heads " << shape.heads << " d " << shape.d << " window "
          << shape.window;
    }
  }
}

TEST(TttAttention, BitEqualForAnyNumberOfThreads) {
  const int threads = num_threads();
  const Case c = make_case(kShapes[0]);
  std::vector<std::vector<Tensor>> results;
  for (int count : {1, 2, 3, 3}) {
    set_num_threads(count);
    results.push_back(run(c, at::kBFloat16));
  }
  set_num_threads(threads);
  for (const auto& other : results) {
    for (size_t i = 0; i < other.size(); ++i)
      EXPECT_TRUE(other[i].equal(results[0][i])) << "tensor " << i;
  }
}

TEST(TttAttention, AWindowThatHidesNothingChangesNoBit) {
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    Case c = make_case({9, 3, 64, {100, 37}, 1.0, 2});
    const std::vector<Tensor> whole = run(c, type);
    for (const int64_t window : {100, 5000}) {
      c.in.window = window;
      const std::vector<Tensor> windowed = run(c, type);
      for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(windowed[i].equal(whole[i])) << i;
    }
    c.in.window = 99;  // the first document's last row loses its first key
    EXPECT_FALSE(run(c, type)[0].equal(whole[0]));
  }
}

TEST(TttAttention, KeysThatLeftTheWindowHaveNoGradient) {
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat}) {
    Case c = make_case({4, 2, 32, {90}, 1.0, 1, 20});
    const auto last = [](const Tensor& x) { return x.narrow(0, x.size(0) - 1, 1); };
    c.in.q = last(c.in.q), c.in.rows = last(c.in.rows), c.d_out = last(c.d_out);
    c.in.k_steps = {last(c.in.k_steps[0])}, c.in.v_steps = {last(c.in.v_steps[0])};
    const std::vector<Tensor> grads = run(c, type);
    for (const size_t base : {2, 3}) {  // of k, of v
      const Tensor seen = grads[base].to(at::kFloat).abs().sum({1, 2}).gt(0);
      EXPECT_TRUE(seen.equal(at::arange(90).ge(70))) << base;
    }
  }
}

class TttRows : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(Windows, TttRows, ::testing::Values(0, 50));

TEST_P(TttRows, DoNotDependOnTheOthers) {
  const Case c = make_case(kShapes[0]);
  at::NoGradGuard no_grad;
  const auto attend = [&](const Tensor& chosen) {
    std::vector<Tensor> k, v;
    for (const Tensor& x : c.in.k_steps) k.push_back(x.index_select(0, chosen));
    for (const Tensor& x : c.in.v_steps) v.push_back(x.index_select(0, chosen));
    return ops::ttt_attention(c.in.q.index_select(0, chosen), c.in.rows.index_select(0, chosen),
                              c.in.k, c.in.v, c.in.q_start, k, v, c.in.scale, GetParam());
  };
  const Tensor some = at::arange(3, c.in.rows.numel(), 7, at::kLong), alone = attend(some),
               among = attend(at::arange(c.in.rows.numel(), at::kLong)).index_select(0, some);
  // ATen serves the lesser instruction sets, and sums in an order that depends on the shape.
  if (cpu::best_isa() < cpu::Isa::kAvx512) GTEST_SKIP() << "no kernel of ours here";
  EXPECT_TRUE(alone.equal(among));
}

TEST(TttAttention, NoSupervisedRow) {
  Case c = make_case({9, 3, 64, {20, 5}, 1.0, 1});
  const Tensor none = at::arange(0, at::kLong);
  const auto pick = [&](const Tensor& x) {
    return testing::leaf(x.index_select(0, none), at::kBFloat16);
  };
  const Tensor k = testing::leaf(c.in.k, at::kBFloat16), v = testing::leaf(c.in.v, at::kBFloat16);
  const Tensor out =
      ops::ttt_attention(pick(c.in.q), none, k, v, c.in.q_start, {pick(c.in.k_steps[0])},
                         {pick(c.in.v_steps[0])}, c.in.scale);
  EXPECT_EQ(out.size(0), 0);
  out.sum().backward();
  EXPECT_EQ(k.grad().abs().sum().item<float>(), 0);
  EXPECT_EQ(v.grad().abs().sum().item<float>(), 0);
}

}  // namespace
}  // namespace aerie
