// A target of embedding and head alone gives the draft what the whole one gives it.
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>

#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

using ::testing::HasSubstr;

class HeadOnly : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<TargetModel> load(at::ScalarType type) const {
    return load_target(golden_dir() / "models" / GetParam(), at::kCPU, type);
  }
  std::unique_ptr<TargetModel> load_head(at::ScalarType type) const {
    return load_target_head(golden_dir() / "models" / GetParam(), at::kCPU, type);
  }
};

INSTANTIATE_TEST_SUITE_P(Families, HeadOnly,
                         ::testing::Values("llama", "llama3_rope_tied", "qwen2", "qwen3_tied",
                                           "gemma3", "qwen2_moe"));

TEST_P(HeadOnly, GivesADraftWhatTheWholeTargetGives) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const auto whole = load(type), head = load_head(type);
    EXPECT_TRUE(head->embed_weight().equal(whole->embed_weight()));
    EXPECT_EQ(head->dtype(), type);
    const Tensor hidden = at::randn({3, whole->config().hidden}).to(type);
    EXPECT_TRUE(ops::linear(hidden, head->head()).equal(ops::linear(hidden, whole->head())));
    const Tensor ids = at::tensor({5, 2, 40}, at::kLong);
    EXPECT_TRUE(head->head_rows(ids).equal(whole->head_rows(ids)));
    const auto last = head->last_layer(), expected = whole->last_layer();
    ASSERT_EQ(last.has_value(), expected.has_value());
    if (!last) continue;
    EXPECT_TRUE(last->down.equal(expected->down));
    EXPECT_TRUE(last->q.equal(expected->q));
    EXPECT_TRUE(last->final_norm.equal(expected->final_norm));
  }
}

TEST_P(HeadOnly, HasNoForwardPass) {
  const auto head = load_head(at::kFloat);
  const ForwardInput input = packed_input(at::arange(4, at::kLong), at::tensor({0, 4}, at::kInt));
  EXPECT_THAT(error_of([&] { head->forward(input); }),
              HasSubstr("only the embedding and the head were loaded"));
}

TEST(HeadOnlyTarget, ATargetWithTowersIsLoadedWhole) {
  const auto target = load_target_head(golden_dir() / "models/qwen2_5_vl", at::kCPU, at::kFloat);
  const ForwardInput input = packed_input(at::arange(4, at::kLong), at::tensor({0, 4}, at::kInt));
  EXPECT_EQ(target->forward(input).hidden.size(0), 4);
}

}  // namespace
}  // namespace aerie::testing
