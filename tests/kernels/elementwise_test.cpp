// The one-pass kernels against the compositions, on every instruction set of this machine.
#include "kernels/cpu/elementwise.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "kernels/composed.h"

namespace aerie {
namespace {

using cpu::bf16;
using cpu::Isa;

constexpr int64_t kColumns = 83;  // no multiple of any vector length

/// bf16: half a unit in the last of 8 bits, and one more where both sides round differently.
double tolerance(at::ScalarType type) { return type == at::kFloat ? 2e-6 : 1.0 / 128; }

void expect_close(const Tensor& actual, const Tensor& expected) {
  const Tensor wide = expected.to(at::kFloat);
  EXPECT_LE(((actual.to(at::kFloat) - wide).abs() / (wide.abs() + 0.05)).max().item<float>(),
            tolerance(expected.scalar_type()));
}

std::vector<Isa> vector_isas() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= cpu::best_isa()) all.push_back(isa);
  }
  return all;
}

template <typename T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <typename T>
void compare_all(Isa isa) {
  const auto type = std::is_same_v<T, float> ? at::kFloat : at::kBFloat16;
  const cpu::RowOps<T>& ops = cpu::row_ops<T>(isa);
  at::manual_seed(1);
  const Tensor x = (at::randn({1, kColumns}) * 3).to(type), weight = at::randn({kColumns});
  Tensor out = at::empty_like(x);
  ops.rms_norm(data<T>(out), data<T>(x), data<float>(weight), 1e-5f, kColumns);
  expect_close(out, ops::composed::rms_norm(x, weight, 1e-5));

  Tensor residual = at::randn({1, kColumns}).to(type), expected_residual = residual.clone();
  ops.add_rms_norm(data<T>(out), data<T>(residual), data<T>(x), data<float>(weight), 1e-5f,
                   kColumns);
  expect_close(out, ops::composed::add_rms_norm_(expected_residual, x, weight, 1e-5));
  EXPECT_TRUE(at::equal(residual, expected_residual));

  const Tensor gate_up = (at::randn({1, 2 * kColumns}) * 8).to(type);
  ops.swiglu(data<T>(out), data<T>(gate_up), kColumns);
  expect_close(out, ops::composed::swiglu(gate_up));

  const ops::RopeTable table = ops::make_rope_table(at::rand({20}), 50);
  const Tensor heads = at::randn({1, 3, 40}).to(type);
  Tensor turned = at::empty_like(heads);
  ops.rope(data<T>(turned), data<T>(heads), data<float>(table.cos[49]), data<float>(table.sin[49]),
           3, 40);
  expect_close(turned, ops::composed::rope(heads, at::tensor({49}, at::kLong), table));
}

TEST(Elementwise, EveryInstructionSetFollowsTheCompositions) {
  for (Isa isa : vector_isas()) {
    SCOPED_TRACE(cpu::isa_name(isa));
    compare_all<float>(isa);
    compare_all<bf16>(isa);
  }
}

TEST(Elementwise, ManyRowsInParallelEqualSingleRows) {
  at::manual_seed(2);
  const Tensor x = at::randn({300, 576}).to(at::kBFloat16), weight = at::randn({576});
  const Tensor all = ops::rms_norm(x, weight, 1e-5), gated = ops::swiglu(x);
  for (int64_t row : {0, 17, 299}) {
    EXPECT_TRUE(at::equal(ops::rms_norm(x.slice(0, row, row + 1), weight, 1e-5)[0], all[row]));
    EXPECT_TRUE(at::equal(ops::swiglu(x.slice(0, row, row + 1))[0], gated[row]));
  }
}

TEST(Elementwise, RopeTakesSlicesOfWiderRows) {
  at::manual_seed(3);
  const Tensor qkv = at::randn({5, 12 * 16}), positions = at::tensor({3, 0, 7, 7, 1}, at::kLong);
  const ops::RopeTable table = ops::make_rope_table(at::rand({8}), 8);
  const Tensor k = qkv.slice(1, 4 * 16, 8 * 16).view({5, 4, 16});
  EXPECT_TRUE(
      at::equal(ops::rope(k, positions, table), ops::rope(k.contiguous(), positions, table)));
}

TEST(Elementwise, RopeRefusesAPositionBeyondItsTable) {
  const ops::RopeTable table = ops::make_rope_table(at::rand({8}), 8);
  EXPECT_THROW(ops::rope(at::zeros({1, 1, 16}), at::tensor({8}, at::kLong), table), Error);
}

TEST(Elementwise, SwigluOfLargeValuesStaysFinite) {
  const Tensor gate = at::tensor({-1000.f, -88.f, 88.f, 1000.f}),
               gate_up = at::cat({gate, at::ones({4})}).view({1, 8});
  EXPECT_TRUE(at::allclose(ops::swiglu(gate_up), at::relu(gate).view({1, 4}), 1e-6, 1e-30));
}

}  // namespace
}  // namespace aerie
