// The layers' CUDA kernels against the ATen compositions and their autograd.
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>

#include "kernels/composed.h"
#include "kernels/cuda_layers.h"
#include "tests/kernels/cuda/tested.h"

namespace aerie {
namespace {

constexpr double kEps = 1e-5;

class CudaLayers : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(7); }
  at::ScalarType type() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Types, CudaLayers, testing::Values(at::kFloat, at::kBFloat16));

/// Narrow and wide rows, whole vectors and tails, more columns than threads.
const std::vector<std::pair<int64_t, int64_t>> kShapes = {{1, 8},   {7, 64},   {5, 100},
                                                          {3, 576}, {2, 1033}, {2, 4608}};

TEST_P(CudaLayers, RmsNorm) {
  for (const auto& [rows, width] : kShapes) {
    for (const at::ScalarType weight_type : {type(), at::kFloat}) {
      const Tensor x = random({rows, width}, type()), weight = random({width}, weight_type);
      const auto got =
          in_every_order([&] { return std::vector{tested().rms_norm(x, weight, kEps)}; });
      EXPECT_EQ(got[0].scalar_type(), type());
      EXPECT_LE(distance(got[0], ops::composed::rms_norm(x, weight, kEps)), tolerance(type()))
          << width;
    }
  }
}

TEST_P(CudaLayers, RmsNormOfHeads) {
  const Tensor x = random({3, 5, 128}, type()), weight = random({128}, type());
  EXPECT_LE(distance(tested().rms_norm(x, weight, kEps), ops::composed::rms_norm(x, weight, kEps)),
            tolerance(type()));
}

TEST_P(CudaLayers, AddRmsNorm) {
  for (const auto& [rows, width] : kShapes) {
    const Tensor x = random({rows, width}, type()), before = random({rows, width}, type());
    const Tensor weight = random({width}, type());
    Tensor expected_residual = before.clone();
    const Tensor expected = ops::composed::add_rms_norm_(expected_residual, x, weight, kEps);
    const auto got = in_every_order([&] {
      Tensor residual = before.clone();
      const Tensor out = tested().add_rms_norm_(residual, x, weight, kEps);
      return std::vector{out, residual};
    });
    EXPECT_LE(distance(got[0], expected), tolerance(type())) << width;
    EXPECT_TRUE(got[1].equal(expected_residual));
  }
}

TEST_P(CudaLayers, RmsNormBackward) {
  for (const auto& [rows, width] :
       std::vector<std::pair<int64_t, int64_t>>{{5, 100}, {3, 576}, {200, 24}, {2, 1033}}) {
    const Tensor x = random({rows, width}, type()), weight = random({width}),
                 grad = random({rows, width}, type());
    const Tensor x_leaf = x.to(at::kFloat).requires_grad_(),
                 weight_leaf = weight.clone().requires_grad_();
    ops::composed::rms_norm(x_leaf, weight_leaf, kEps).backward(grad.to(at::kFloat));
    const auto got = in_every_order([&] {
      const NormGrads grads = tested().rms_norm_backward(grad, x, weight, kEps);
      return std::vector{grads.x, grads.weight};
    });
    EXPECT_LE(distance(got[0], x_leaf.grad()), tolerance(type())) << width;
    EXPECT_LE(distance(got[1], weight_leaf.grad()), 1e-5) << width;
  }
}

TEST_P(CudaLayers, RopeAndItsInverse) {
  const int64_t positions_end = 40;
  for (const int64_t head_dim : {2, 16, 20, 64, 128}) {
    const auto table = ops::make_rope_table(at::randn({head_dim / 2}).exp(), positions_end, 1.5);
    const Tensor fused = random({6, 5 * head_dim}, type());  // q is a slice of a fused projection
    const Tensor q = fused.slice(1, head_dim, 4 * head_dim).unflatten(1, {3, head_dim});
    const Tensor positions = at::randint(positions_end, {6}, at::kLong);
    const auto got =
        in_every_order([&] { return std::vector{tested().rope(q, positions, table, false)}; });
    EXPECT_LE(distance(got[0], ops::composed::rope(q, positions, table)), tolerance(type()))
        << head_dim;

    const Tensor leaf = q.to(at::kFloat).clone().requires_grad_(), grad = random(q.sizes(), type());
    ops::composed::rope(leaf, positions, table).backward(grad.to(at::kFloat));
    EXPECT_LE(distance(tested().rope(grad, positions, table, true), leaf.grad()), tolerance(type()))
        << head_dim;
  }
}

TEST_P(CudaLayers, SwigluAndItsBackward) {
  for (const int64_t width : {1, 8, 30, 512, 1000}) {
    const Tensor gate_up = random({5, 2 * width}, type()) * 3, grad = random({5, width}, type());
    const Tensor leaf = gate_up.to(at::kFloat).requires_grad_();
    const Tensor expected = ops::composed::swiglu(leaf);
    expected.backward(grad.to(at::kFloat));
    const auto got = in_every_order([&] {
      return std::vector{tested().swiglu(gate_up), tested().swiglu_backward(grad, gate_up)};
    });
    EXPECT_LE(distance(got[0], expected), tolerance(type())) << width;
    EXPECT_LE(distance(got[1], leaf.grad()), tolerance(type())) << width;
  }
}

/// A small network of all layers; x and weight as leaves, the gradients of both as result.
template <typename Norm, typename Rope, typename Swiglu>
std::vector<Tensor> train(const Tensor& x, const Tensor& weight, const Norm& norm, const Rope& rope,
                          const Swiglu& swiglu) {
  const Tensor x_leaf = x.clone().requires_grad_(), weight_leaf = weight.clone().requires_grad_();
  const Tensor turned = rope(norm(x_leaf, weight_leaf).unflatten(1, {4, 32})).flatten(1);
  swiglu(turned).to(at::kFloat).square().sum().backward();
  return {x_leaf.grad(), weight_leaf.grad()};
}

TEST_P(CudaLayers, AreRecordedForAutograd) {
  const Tensor x = random({6, 128}, type()), weight = random({128}),
               positions = at::randint(40, {6}, at::kLong);
  const auto table = ops::make_rope_table(at::randn({16}).exp(), 40);
  const auto expected = train(
      x.to(at::kFloat), weight,
      [](const auto& a, const auto& w) { return ops::composed::rms_norm(a, w, kEps); },
      [&](const auto& a) { return ops::composed::rope(a, positions, table); },
      [](const auto& a) { return ops::composed::swiglu(a); });
  const auto got = train(
      x, weight,
      [](const auto& a, const auto& w) { return ops::cuda::rms_norm(a, w, kEps, tested()); },
      [&](const auto& a) { return ops::cuda::rope(a, positions, table, tested()); },
      [](const auto& a) { return ops::cuda::swiglu(a, tested()); });
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(distance(got[i], expected[i]), 2 * tolerance(type())) << i;
  EXPECT_EQ(got[0].scalar_type(), type());
  EXPECT_EQ(got[1].scalar_type(), at::kFloat);
}

TEST_P(CudaLayers, NoRowsAreFine) {
  EXPECT_EQ(tested().rms_norm(random({0, 64}, type()), random({64}, type()), kEps).size(0), 0);
  EXPECT_EQ(tested().swiglu(random({0, 64}, type())).size(0), 0);
}

}  // namespace
}  // namespace aerie
