// The trainer's CUDA kernels against the ATen compositions: values and every gradient.
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>

#include "tests/kernels/cuda/tested.h"

namespace aerie {
namespace {

class CudaTraining : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(13); }
  at::ScalarType type() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Types, CudaTraining, testing::Values(at::kFloat, at::kBFloat16));

struct TttCase {
  int64_t heads, kv_heads, head_dim, steps;
  std::vector<int32_t> q_start;
  double kept;  // share of rows that are queries
  int64_t window = 0;
};

const std::vector<TttCase> kTttCases = {
    {4, 2, 64, 0, {0, 40}, 1.0},
    {4, 2, 64, 3, {0, 1, 30, 75}, 0.5},
    {3, 3, 16, 6, {0, 33}, 0.7},
    {6, 2, 128, 2, {0, 20, 20, 41}, 0.6},
    {2, 1, 256, 1, {0, 9, 36}, 1.0},
    {5, 1, 80, 2, {0, 550}, 0.04},
    {4, 2, 64, 3, {0, 1, 60, 105}, 0.5, 7},
    {4, 1, 32, 1, {0, 90}, 1.0, 40},
};

ops::AttentionInputs make_inputs(const TttCase& c, at::ScalarType type) {
  const int64_t base = c.q_start.back();
  const Tensor rows = at::arange(base, at::kLong).masked_select(at::rand({base}).le(c.kept));
  ops::AttentionInputs in{random({rows.numel(), c.heads, c.head_dim}, type),
                          rows,
                          random({base, c.kv_heads, c.head_dim}, type),
                          random({base, c.kv_heads, c.head_dim}, type),
                          at::tensor(c.q_start, at::kInt),
                          {},
                          {},
                          1 / std::sqrt(double(c.head_dim)),
                          c.window};
  for (int64_t s = 0; s < c.steps; ++s) {
    in.k_steps.push_back(random({rows.numel(), c.kv_heads, c.head_dim}, type));
    in.v_steps.push_back(random({rows.numel(), c.kv_heads, c.head_dim}, type));
  }
  return in;
}

TEST_P(CudaTraining, TttAttentionForward) {
  for (const TttCase& c : kTttCases) {
    const ops::AttentionInputs in = make_inputs(c, type());
    const ops::AttentionOutput expected = ops::composed::ttt_forward(in);
    const auto got = in_every_order([&] {
      const ops::AttentionOutput out = tested().ttt_forward(in);
      return std::vector{out.out, out.lse};
    });
    EXPECT_LE(distance(got[0], expected.out), tolerance(type())) << c.head_dim;
    EXPECT_LE(distance(got[1], expected.lse), 1e-5) << c.head_dim;
  }
}

TEST_P(CudaTraining, TttAttentionBackward) {
  for (const TttCase& c : kTttCases) {
    const ops::AttentionInputs in = make_inputs(c, type());
    const ops::AttentionOutput out = ops::composed::ttt_forward(in);
    const Tensor grad = random(in.q.sizes(), type());
    const auto flat = [](const ops::AttentionGrads& grads) {
      std::vector<Tensor> list{grads.q, grads.k, grads.v};
      list.insert(list.end(), grads.k_steps.begin(), grads.k_steps.end());
      list.insert(list.end(), grads.v_steps.begin(), grads.v_steps.end());
      return list;
    };
    const auto expected = flat(ops::composed::ttt_backward(in, out, grad));
    const auto got = in_every_order([&] { return flat(tested().ttt_backward(in, out, grad)); });
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].scalar_type(), type());
      EXPECT_LE(distance(got[i], expected[i]), tolerance(type()))
          << "gradient " << i << ", head size " << c.head_dim;
    }
  }
}

/// A teacher over V tokens and a student over W of them, with rows that share teacher rows.
struct LossCase {
  int64_t vocab, draft_vocab, teacher_rows, rows, width;
};

struct LossSetup {
  ops::LinearWeight head, teacher_head;
  ops::Teacher teacher;
  ops::HeadLossInputs in;
};

void fill(LossSetup& setup, const LossCase& c, at::ScalarType type) {
  setup.head = ops::LinearWeight{random({c.draft_vocab, c.width}), {}, {}, c.draft_vocab, c.width};
  setup.teacher_head =
      ops::LinearWeight{random({c.vocab, c.width}, type), {}, {}, c.vocab, c.width};
  const Tensor target_of =
      std::get<0>(at::randperm(c.vocab, at::kLong).slice(0, 0, c.draft_vocab).sort());
  Tensor draft_of = at::full({c.vocab}, -1, at::kLong);
  draft_of.index_copy_(0, target_of, at::arange(c.draft_vocab, at::kLong));
  setup.teacher.hidden = random({c.teacher_rows, c.width}, type);
  setup.teacher.head = &setup.teacher_head;
  setup.teacher.target_of = target_of;
  setup.teacher.draft_of = draft_of;
  setup.in = {random({c.rows, c.width}, type),
              &setup.head,
              &setup.teacher,
              at::randint(c.teacher_rows, {c.rows}, at::kLong),
              at::rand({c.rows}),
              true,
              true};
}

TEST_P(CudaTraining, HeadLoss) {
  int64_t known = 0, unknown = 0;  // labels in and outside the draft vocabulary: both must occur
  for (const LossCase& c :
       {LossCase{64, 32, 5, 9, 16}, {1000, 333, 3, 11, 24}, {50, 50, 300, 40, 8}}) {
    LossSetup setup;
    fill(setup, c, type());
    const ops::HeadLossOutput expected = ops::composed::head_loss(setup.in);
    const auto got = in_every_order([&] {
      const ops::HeadLossOutput out = tested().head_loss(setup.in);
      return std::vector{out.values.loss,  out.values.alpha, out.values.hit, out.values.in_vocab,
                         out.values.total, out.grads.hidden, out.grads.head};
    });
    EXPECT_LE(distance(got[0], expected.values.loss), 1e-5);
    EXPECT_LE(distance(got[1], expected.values.alpha), 1e-5);
    EXPECT_TRUE(got[2].equal(expected.values.hit));
    EXPECT_TRUE(got[3].equal(expected.values.in_vocab));
    EXPECT_LE(distance(got[4], expected.values.total), 1e-5);
    EXPECT_LE(distance(got[5], expected.grads.hidden), tolerance(type()));
    EXPECT_LE(distance(got[6], expected.grads.head),
              tolerance(type()));  // products of gradients in `type`
    known += expected.values.in_vocab.sum().item<int64_t>();
    unknown += c.rows - expected.values.in_vocab.sum().item<int64_t>();
  }
  EXPECT_GT(known, 0);
  EXPECT_GT(unknown, 0);
}

TEST_P(CudaTraining, HeadLossOfPeakedTeacherAndTiedLogits) {
  LossSetup setup;
  fill(setup, {64, 64, 4, 4, 16}, type());
  setup.teacher.hidden.mul_(30);  // most probabilities underflow
  setup.in.hidden.zero_();        // all logits equal: the first index is the argmax
  const ops::HeadLossOutput expected = ops::composed::head_loss(setup.in),
                            got = tested().head_loss(setup.in);
  EXPECT_LE(distance(got.values.loss, expected.values.loss), 1e-5);
  EXPECT_TRUE(got.values.hit.equal(expected.values.hit));
  EXPECT_TRUE(got.values.loss.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace aerie
