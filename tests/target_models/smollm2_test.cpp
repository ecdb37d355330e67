// SmolLM2-135M-Instruct in bf16 against transformers: logits and captured states of three prompts.
// Both sides round differently, so each is compared with transformers in f32 too: our distance to
// that truth must not exceed the distance of transformers' own bf16 run by more than a quarter.
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>

#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

constexpr int kPrompts = 3;
const std::vector<int64_t> kCaptured{1, 14, 26};

double distance(const Tensor& a, const Tensor& b) { return (a - b).norm().item<double>(); }

/// Bytes that belong to this process alone, the mapped file not counted.
int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib * 1024;
  }
  fail("/proc/self/status holds no RssAnon");
}

class SmolLM2 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const fs::path directory = smollm2_dir();
    ASSERT_TRUE(fs::exists(directory / "model.safetensors"))
        << directory << " is not there: run scripts/fetch_smollm2.sh first";
    const int64_t before = anonymous_bytes();
    model_ = load_target(directory, at::kCPU, at::kBFloat16).release();
    loaded_bytes_ = anonymous_bytes() - before;
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

  /// Logits of every row, the prompt going through a cache in chunks that end at `ends`.
  Tensor paged_logits(int prompt, const std::vector<int64_t>& ends) const {
    const ModelConfig& config = model_->config();
    KvPool pool = ops::make_kv_pool(config.layers, 8, config.kv_heads, config.head_dim,
                                    at::kBFloat16, at::kCPU);
    std::vector<Tensor> logits;
    int64_t begin = 0;
    for (const int64_t end : ends) {
      ForwardInput input;
      input.tokens = value(prompt, "tokens").slice(0, begin, end);
      input.positions = at::arange(begin, end, at::kLong);
      input.kv = &pool;
      input.layout.q_start = int32s({0, end - begin});
      input.layout.kv_len = int32s({end});
      input.layout.pages = int32s({0, 1, 2, 3, 4, 5, 6, 7}).unsqueeze(0);
      input.layout.slots = input.positions;
      input.layout.max_q = end - begin;
      input.layout.max_kv = end;
      input.logit_rows = at::arange(end - begin, at::kLong);
      logits.push_back(model_->forward(input).logits);
      begin = end;
    }
    return at::cat(logits);
  }

  static TargetModel* model_;
  static int64_t loaded_bytes_;
  std::map<std::string, Tensor> values_;
};
TargetModel* SmolLM2::model_ = nullptr;
int64_t SmolLM2::loaded_bytes_ = 0;

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

/// The 16 likeliest tokens of every row.
TEST_F(SmolLM2, LogitsOfEveryRowEqualTransformers) {
  for (int i = 0; i < kPrompts; ++i) {
    const Tensor ids = value(i, "row_top_ids").to(at::kLong);
    const Tensor logits = forward(i).logits.gather(1, ids).to(at::kFloat);
    const Tensor theirs = value(i, "row_top_bf16").to(at::kFloat);
    const Tensor& exact = value(i, "row_top_f32");
    const double error = max_error(logits, theirs);
    std::cout << fmt::format(
        "prompt {}: {} rows, max difference to transformers bf16 {:.3f}; to f32: ours {:.3f}, "
        "theirs {:.3f}\n",
        i, ids.size(0), error, max_error(logits, exact), max_error(theirs, exact));
    EXPECT_LE(error, 1.25);
    EXPECT_LE(distance(logits, exact), 1.25 * distance(theirs, exact));
  }
}

TEST_F(SmolLM2, CapturedStatesEqualTransformers) {
  for (int i = 0; i < kPrompts; ++i) {
    const Tensor captured = forward(i).captured.index_select(0, value(i, "rows")).to(at::kFloat);
    const Tensor& exact = value(i, "captured_f32");
    const Tensor theirs = value(i, "captured_bf16").to(at::kFloat);
    // The first position holds values of thousands; the others', near 1, must be right besides.
    const Tensor size = exact.norm(2, 1);
    const double worst = ((captured - exact).norm(2, 1) / size).max().item<double>();
    const double their_worst = ((theirs - exact).norm(2, 1) / size).max().item<double>();
    std::cout << fmt::format(
        "prompt {}: captured states of {} rows, max difference to transformers bf16 {:.3f} of "
        "{:.0f}; worst row's relative distance to f32: ours {:.5f}, theirs {:.5f}\n",
        i, size.numel(), max_error(captured, theirs), exact.abs().max().item<double>(), worst,
        their_worst);
    EXPECT_LE(worst, 1.25 * their_worst);
    EXPECT_LE(distance(captured, exact), 1.25 * distance(theirs, exact));
  }
}

/// What a decoding engine runs: wherever a prompt is cut, every row has the same bits, and they are
/// as near to the truth as transformers' in bf16: all prompts together, because the rounding of one
/// row's logits is one draw.
TEST_F(SmolLM2, PagedChunksEqualTheWholePromptAndTransformers) {
  double ours = 0, theirs = 0;
  for (int i = 0; i < kPrompts; ++i) {
    const int64_t length = value(i, "tokens").numel();
    const Tensor whole = paged_logits(i, {length});
    EXPECT_TRUE(whole.equal(paged_logits(i, {21, length})));
    EXPECT_TRUE(whole.equal(paged_logits(i, {1, 17, 34, length - 1, length})));
    const Tensor last = whole[-1].index_select(0, value(i, "top_ids"));
    ours += distance(last, value(i, "top_f32"));
    theirs += distance(value(i, "top_bf16"), value(i, "top_f32"));
  }
  std::cout << fmt::format("paged, distance to f32: ours {:.3f}, theirs {:.3f}\n", ours, theirs);
  EXPECT_LE(ours, theirs);
}

TEST_F(SmolLM2, ResidentMemoryIsAboutTheWeights) {
  const int64_t weights = 134515008 * int64_t{2};  // parameters, the tied head counted once
  std::cout << fmt::format("loading took {} MB of own memory for {} MB of weights\n",
                           loaded_bytes_ >> 20, weights >> 20);
  EXPECT_LE(loaded_bytes_, weights * 5 / 4);
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
