// SmolLM2-135M-Instruct in bf16 against transformers: logits and captured states of three prompts.
// Both sides round differently, so each is compared with transformers in f32 too: our distance to
// that truth must not exceed the distance of transformers' own bf16 run by more than a quarter.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

constexpr int kPrompts = 3;
const std::vector<int64_t> kCaptured{1, 14, 26};

class SmolLM2 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const fs::path directory = fs::path(AERIE_SOURCE_DIR) / "models/SmolLM2-135M-Instruct";
    ASSERT_TRUE(fs::exists(directory / "model.safetensors"))
        << directory << " is not there: run scripts/fetch_smollm2.sh first";
    model_ = load_target(directory, at::kCPU, at::kBFloat16).release();
  }
  static void TearDownTestSuite() {
    delete model_;
    model_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(model_, nullptr) << "the model could not be loaded";
    values_ = read_values(golden_dir() / "smollm2.safetensors");
  }
  const Tensor& value(int prompt, const char* name) const {
    return values_.at(fmt::format("{}.{}", prompt, name));
  }
  ForwardOutput forward(int prompt) const {
    const Tensor& tokens = value(prompt, "tokens");
    ForwardInput input = packed_input(tokens, int32s({0, tokens.numel()}));
    input.capture_layers = kCaptured;
    return model_->forward(input);
  }

  static TargetModel* model_;
  std::map<std::string, Tensor> values_;
};
TargetModel* SmolLM2::model_ = nullptr;

double distance(const Tensor& a, const Tensor& b) { return (a - b).norm().item<double>(); }

TEST_F(SmolLM2, LogitsEqualTransformers) {
  for (int i = 0; i < kPrompts; ++i) {
    const ForwardOutput out = forward(i);
    const Tensor logits = out.logits[-1].index_select(0, value(i, "top_ids"));
    const double error = max_error(logits, value(i, "top_bf16"));
    const double ours = distance(logits, value(i, "top_f32"));
    const double theirs = distance(value(i, "top_bf16"), value(i, "top_f32"));
    std::cout << fmt::format(
        "prompt {}: 64 highest logits, max difference to transformers bf16 {:.3f}; distance to "
        "f32: ours {:.3f}, theirs {:.3f}\n",
        i, error, ours, theirs);
    EXPECT_LE(error, 0.5);
    EXPECT_LE(ours, 1.25 * theirs);
    const Tensor& best = value(i, "argmax_f32");
    const int64_t agreeing = out.logits.argmax(-1).eq(best).sum().item<int64_t>();
    const int64_t theirs_agreeing = value(i, "argmax_bf16").eq(best).sum().item<int64_t>();
    EXPECT_GE(agreeing, theirs_agreeing - 1) << "of " << best.numel() << " positions";
  }
}

TEST_F(SmolLM2, CapturedStatesEqualTransformers) {
  for (int i = 0; i < kPrompts; ++i) {
    const Tensor captured = forward(i).captured[-1].to(at::kFloat);
    const Tensor& exact = value(i, "captured_f32");
    const double ours = distance(captured, exact) / exact.norm().item<double>();
    const double theirs = distance(value(i, "captured_bf16"), exact) / exact.norm().item<double>();
    std::cout << fmt::format(
        "prompt {}: captured states, relative distance to f32: ours {:.5f}, theirs {:.5f}\n", i,
        ours, theirs);
    EXPECT_LE(ours, 1.25 * theirs);
  }
}

TEST_F(SmolLM2, OnlyTheAskedRowsAreProjected) {
  const Tensor& tokens = value(1, "tokens");
  ForwardInput input = packed_input(tokens, int32s({0, tokens.numel()}));
  const Tensor all = model_->forward(input).logits;
  input.logit_rows = at::tensor({tokens.numel() - 1, int64_t{0}}, at::kLong);
  const Tensor two = model_->forward(input).logits;
  EXPECT_TRUE(two.equal(all.index_select(0, input.logit_rows)));
}

}  // namespace
}  // namespace aerie::testing
