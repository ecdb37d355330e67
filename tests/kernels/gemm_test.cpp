// The packed matrix product on every instruction set of this machine.
#include "kernels/cpu/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "common/error.h"
#include "common/threads.h"
#include "kernels/ops.h"

namespace aerie::cpu {
namespace {

const bf16* bits(const Tensor& tensor) { return static_cast<const bf16*>(tensor.const_data_ptr()); }
bf16* bits(Tensor& tensor) { return static_cast<bf16*>(tensor.mutable_data_ptr()); }

Tensor random_bf16(int64_t rows, int64_t columns) {
  return at::randn({rows, columns}).to(at::kBFloat16);
}

Tensor pack(const Tensor& weight, Source order) {
  const bool as_is = order == Source::kNK;
  const int64_t n = weight.size(as_is ? 0 : 1), k = weight.size(as_is ? 1 : 0);
  Tensor packed = at::empty({packed_size(n, k)}, at::kBFloat16);
  if (weight.scalar_type() == at::kFloat) {
    pack_b(bits(packed), weight.const_data_ptr<float>(), weight.size(1), n, k, order);
  } else {
    pack_b(bits(packed), bits(weight), weight.size(1), n, k, order);
  }
  return packed;
}

/// a [M,K], packed [N,K] -> [M,N] f32
Tensor multiply(const Tensor& a, const Tensor& packed, int64_t n, Isa isa) {
  Tensor c = at::full({a.size(0), n}, 1e9f);
  Gemm problem{.m = a.size(0), .n = n, .k = a.size(1)};
  problem.a = bits(a);
  problem.lda = a.stride(0);
  problem.b = bits(packed);
  problem.c_f32 = c.mutable_data_ptr<float>();
  problem.ldc = n;
  gemm(problem, isa);
  return c;
}

/// Largest difference to the product in f64, relative to the sum of the magnitudes of its terms.
double error(const Tensor& c, const Tensor& a, const Tensor& weight) {
  const Tensor wide = a.to(at::kDouble), w = weight.to(at::kDouble).t();
  return ((c.to(at::kDouble) - wide.mm(w)).abs() / (wide.abs().mm(w.abs()) + 1e-30))
      .max()
      .item<double>();
}

class GemmOn : public ::testing::TestWithParam<Isa> {};

TEST_P(GemmOn, FollowsTheDefinitionForAnyShape) {
  at::manual_seed(1);
  for (const auto& [m, n, k] : {std::tuple{1, 1, 1},
                                {1, 16, 32},
                                {3, 17, 33},
                                {16, 32, 64},
                                {17, 48, 31},
                                {31, 75, 129},
                                {32, 576, 96},
                                {33, 100, 576},
                                {300, 70, 200},
                                {5, 31, 1536}}) {
    const Tensor a = random_bf16(m, k), weight = random_bf16(n, k);
    EXPECT_LE(error(multiply(a, pack(weight, Source::kNK), n, GetParam()), a, weight), 1e-6)
        << m << " " << n << " " << k;
  }
}

TEST_P(GemmOn, RowIsBitIdenticalForAnyNumberOfRows) {
  at::manual_seed(2);
  constexpr int64_t kMost = 256, kOutputs = 80;
  const Tensor a = random_bf16(kMost, 224), packed = pack(random_bf16(kOutputs, 224), Source::kNK);
  const Tensor all = multiply(a, packed, kOutputs, GetParam());
  for (int64_t rows = 1; rows <= kMost; ++rows) {
    // The last `rows` rows, so that the same row stands at another place each time.
    const Tensor some = multiply(a.slice(0, kMost - rows), packed, kOutputs, GetParam());
    ASSERT_TRUE(at::equal(some, all.slice(0, kMost - rows))) << rows << " rows";
  }
}

// At the shape of SmolLM2's MLP; on the slower instruction sets at some counts only.
TEST_P(GemmOn, RowIsBitIdenticalForAnyNumberOfRowsAtARealShape) {
  at::manual_seed(12);
  constexpr int64_t kMost = 256, kOutputs = 1536, kInputs = 576;
  const Tensor a = random_bf16(kMost, kInputs),
               packed = pack(random_bf16(kOutputs, kInputs), Source::kNK);
  const Tensor all = multiply(a, packed, kOutputs, GetParam());
  const int64_t step = GetParam() == Isa::kPortable ? 51 : GetParam() == Isa::kAvx2 ? 5 : 1;
  for (int64_t rows = 1; rows <= kMost; rows += step) {
    const Tensor some = multiply(a.slice(0, kMost - rows), packed, kOutputs, GetParam());
    ASSERT_TRUE(at::equal(some, all.slice(0, kMost - rows))) << rows << " rows";
  }
}

TEST_P(GemmOn, ThreadsDoNotChangeTheResult) {
  at::manual_seed(3);
  const Tensor a = random_bf16(70, 320), packed = pack(random_bf16(500, 320), Source::kNK);
  const Tensor two = multiply(a, packed, 500, GetParam());
  const int threads = num_threads();
  set_num_threads(1);
  EXPECT_TRUE(at::equal(multiply(a, packed, 500, GetParam()), two));
  set_num_threads(5);
  EXPECT_TRUE(at::equal(multiply(a, packed, 500, GetParam()), two));
  set_num_threads(threads);
}

TEST_P(GemmOn, WritesBf16RoundedFromTheSameSums) {
  at::manual_seed(4);
  const Tensor a = random_bf16(35, 64), packed = pack(random_bf16(45, 64), Source::kNK);
  Tensor c = at::zeros({35, 48}, at::kBFloat16);
  Gemm problem{.m = 35, .n = 45, .k = 64};
  problem.a = bits(a);
  problem.lda = 64;
  problem.b = bits(packed);
  problem.c_bf16 = bits(c);
  problem.ldc = 48;
  gemm(problem, GetParam());
  EXPECT_TRUE(at::equal(c.slice(1, 0, 45), multiply(a, packed, 45, GetParam()).to(at::kBFloat16)));
  EXPECT_EQ(c.slice(1, 45).abs().max().item<float>(), 0) << "wrote beyond the last column";
}

TEST_P(GemmOn, AccumulatesIntoC) {
  at::manual_seed(5);
  const Tensor a = random_bf16(20, 64), packed = pack(random_bf16(40, 64), Source::kNK);
  const Tensor product = multiply(a, packed, 40, GetParam()), before = at::randn({20, 40});
  Tensor c = before.clone();
  Gemm problem{.m = 20, .n = 40, .k = 64};
  problem.a = bits(a);
  problem.lda = 64;
  problem.b = bits(packed);
  problem.c_f32 = c.mutable_data_ptr<float>();
  problem.ldc = 40;
  problem.accumulate = true;
  gemm(problem, GetParam());
  EXPECT_TRUE(at::equal(c, before + product));
}

TEST_P(GemmOn, AgreesWithThePlainLoops) {
  at::manual_seed(6);
  const Tensor a = random_bf16(19, 576), weight = random_bf16(64, 576),
               packed = pack(weight, Source::kNK);
  const Tensor plain = multiply(a, packed, 64, Isa::kPortable);
  // Both round differently, but each within a few units of f32 of the sum of magnitudes.
  const Tensor magnitude = a.to(at::kFloat).abs().mm(weight.to(at::kFloat).abs().t());
  EXPECT_LE(((multiply(a, packed, 64, GetParam()) - plain).abs() / magnitude).max().item<float>(),
            1e-6);
}

std::vector<Isa> all_isas() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (isa <= best_isa()) all.push_back(isa);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Isa, GemmOn, ::testing::ValuesIn(all_isas()),
                         [](const auto& isa) { return std::string(isa_name(isa.param)); });

TEST(Pack, OrdersOfTheSourceGiveTheSameTiles) {
  at::manual_seed(7);
  for (const auto& [n, k] : {std::pair{64, 64}, {33, 47}, {16, 95}, {1, 1}}) {
    const Tensor weight = at::randn({n, k});
    const Tensor packed = pack(weight, Source::kNK);
    EXPECT_TRUE(at::equal(packed, pack(weight.t().contiguous(), Source::kKN)));
    EXPECT_TRUE(at::equal(packed, pack(weight.to(at::kBFloat16), Source::kNK)));
    EXPECT_TRUE(at::equal(packed, pack(weight.to(at::kBFloat16).t().contiguous(), Source::kKN)));
    Tensor back = at::empty({n, k}, at::kBFloat16);
    unpack_b(bits(back), bits(packed), n, k);
    EXPECT_TRUE(at::equal(back, weight.to(at::kBFloat16)));
  }
}

TEST(Pack, TransposeRoundsLikeATen) {
  at::manual_seed(8);
  for (const auto& [rows, columns] : {std::pair{64, 96}, {33, 47}, {1, 70}, {70, 1}}) {
    const Tensor source = at::randn({rows, columns}),
                 expected = source.to(at::kBFloat16).t().contiguous();
    Tensor turned = at::empty({columns, rows}, at::kBFloat16);
    transpose(bits(turned), rows, source.const_data_ptr<float>(), columns, rows, columns);
    EXPECT_TRUE(at::equal(turned, expected));
    const Tensor narrow = source.to(at::kBFloat16);
    transpose(bits(turned), rows, bits(narrow), columns, rows, columns);
    EXPECT_TRUE(at::equal(turned, expected));
  }
}

TEST(Linear, Bf16IsCloseToATen) {
  at::manual_seed(9);
  const Tensor weight = random_bf16(960, 576), x = random_bf16(5, 576);
  const Tensor expected = at::linear(x.to(at::kFloat), weight.to(at::kFloat));
  const Tensor y = ops::linear(x, ops::pack_linear(weight));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  // one rounding to bf16: half a unit in the last of 8 bits
  EXPECT_LE(((y.to(at::kFloat) - expected).abs() / (expected.abs() + 0.1)).max().item<float>(),
            1.0 / 256);
}

TEST(Linear, RefusesActivationsOfAnotherType) {
  const ops::LinearWeight weight = ops::pack_linear(at::ones({4, 4}, at::kBFloat16));
  EXPECT_THROW(ops::linear(at::ones({1, 4}), weight), Error);
}

TEST(Linear, TrainableWeightIsPackedAnewIntoTheSameBuffers) {
  at::manual_seed(10);
  Tensor master = at::randn({50, 70});
  ops::LinearWeight weight = ops::pack_trainable(master, at::kBFloat16);
  const void* buffer = weight.packed.const_data_ptr();
  master.mul_(2);
  weight = ops::pack_trainable(master, at::kBFloat16, weight);
  EXPECT_EQ(weight.packed.const_data_ptr(), buffer);
  const Tensor x = random_bf16(3, 70);
  EXPECT_TRUE(at::equal(ops::linear(x, weight),
                        ops::linear(x, ops::pack_linear(master.to(at::kBFloat16)))));
  EXPECT_TRUE(at::equal(weight.packed_transpose, pack(master, Source::kKN)));
}

}  // namespace
}  // namespace aerie::cpu
