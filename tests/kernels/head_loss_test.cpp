// The fused head against its composition where its work is cut: more teacher rows than one chunk
// (256) and more students of a chunk than one block (512).
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "kernels/cpu/training.h"
#include "tests/kernels/golden.h"

namespace aerie::ops {
namespace {

using aerie::testing::norm_error;

constexpr int64_t kTeachers = 600, kDepths = 4, kVocab = 1100, kDraftVocab = 300, kWidth = 64;

/// Every teacher row labels a student of each depth, depth after depth, as an unroll orders them.
struct HeadCase {
  Tensor draft_of = at::full({kVocab}, -1, at::kLong);
  LinearWeight teacher_head = pack_linear(at::randn({kVocab, kWidth}).to(at::kBFloat16));
  Tensor master = at::randn({kDraftVocab, kWidth}).requires_grad_();
  LinearWeight head = pack_trainable(master, at::kBFloat16);
  Teacher teacher{at::randn({kTeachers, kWidth}).to(at::kBFloat16), &teacher_head,
                  at::arange(0, 3 * kDraftVocab, 3, at::kLong), draft_of};
  HeadLossInputs in;

  explicit HeadCase(const char* loss) {
    draft_of.index_put_({teacher.target_of}, at::arange(kDraftVocab, at::kLong));
    in.hidden = at::randn({kTeachers * kDepths, kWidth}).to(at::kBFloat16);
    in.head = &head;
    in.teacher = &teacher;
    in.teacher_row = at::arange(kTeachers, at::kLong).repeat({kDepths});
    in.row_weight = at::rand({kTeachers * kDepths});
    in.hidden_grad = in.head_grad = true;
    in.mix = parse_loss(loss, "train.loss");
  }
};

class HeadLossChunks : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Losses, HeadLossChunks, ::testing::Values("kl", "0.6 kl + 0.4 tv"));

TEST_P(HeadLossChunks, GiveWhatTheCompositionGives) {
  at::manual_seed(7);
  const HeadCase one(GetParam());
  ASSERT_TRUE(cpu::head_loss_supported(one.in));
  const at::NoGradGuard no_grad;
  const HeadLossOutput fused = cpu::head_loss(one.in), plain = composed::head_loss(one.in);
  EXPECT_TRUE(fused.values.in_vocab.equal(plain.values.in_vocab));
  EXPECT_TRUE(fused.values.hit.equal(plain.values.hit));
  EXPECT_GT(fused.values.in_vocab.sum().item<int64_t>(), kTeachers / 4);
  EXPECT_LT(norm_error(fused.values.loss, plain.values.loss), 1e-5);
  EXPECT_LT(norm_error(fused.values.alpha, plain.values.alpha), 1e-5);
  EXPECT_LT(norm_error(fused.values.total, plain.values.total), 1e-5);
  // The fused form rounds the gradient of the logits to bf16 before its two products.
  EXPECT_LT(norm_error(fused.grads.hidden, plain.grads.hidden), 6e-3);
  EXPECT_LT(norm_error(fused.grads.head, plain.grads.head), 6e-3);
}

}  // namespace
}  // namespace aerie::ops
