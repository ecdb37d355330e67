// Tiny models of every family against transformers (scripts/make_golden_models.py): logits, last
// hidden state and the residual stream after every layer, f32, packed and paged.
#include <gtest/gtest.h>

#include "tests/target_models/testing.h"

namespace aerie::testing {
namespace {

constexpr double kTolerance = 1e-4;  // logits are of order 1..10

class TinyModel : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const fs::path directory = golden_dir() / "models" / GetParam();
    model_ = load_target(directory, at::kCPU, at::kFloat);
    values_ = read_values(directory / "values.safetensors");
    // [L,N,C] -> [N,L*C], as `captured` has it
    const Tensor& layers = values_.at("layers");
    expected_captured_ = layers.transpose(0, 1).reshape({layers.size(1), -1});
  }

  std::unique_ptr<TargetModel> model_;
  std::map<std::string, Tensor> values_;
  Tensor expected_captured_;
};

TEST_P(TinyModel, PackedDocumentsEqualTransformers) {
  ForwardInput input = packed_input(values_.at("tokens"), values_.at("q_start"));
  input.capture_layers = all_layers(model_->config());
  const ForwardOutput out = model_->forward(input);
  EXPECT_LE(max_error(out.logits, values_.at("logits")), kTolerance);
  EXPECT_LE(max_error(out.hidden, values_.at("hidden")), kTolerance);
  EXPECT_LE(max_error(out.captured, expected_captured_), kTolerance);
}

/// Both documents advance together by chunks of different lengths through a cache with shuffled
/// pages.
TEST_P(TinyModel, PagedChunksEqualTransformers) {
  const ModelConfig& config = model_->config();
  KvPool pool =
      ops::make_kv_pool(config.layers, 8, config.kv_heads, config.head_dim, at::kFloat, at::kCPU);
  const std::vector<std::vector<int64_t>> pages{{6, 1, 4}, {3, 7, 0}};
  const std::vector<int64_t> start{0, 37}, length{37, 20};
  const std::vector<std::vector<int64_t>> steps{{7, 20}, {17, 0}, {1, 0}, {12, 0}};
  std::vector<int64_t> done{0, 0};
  for (const auto& step : steps) {
    ForwardInput input;
    std::vector<int64_t> rows, slots, positions, q_start{0}, kv_len;
    std::vector<Tensor> page_rows;
    for (size_t s = 0; s < 2; ++s) {
      if (step[s] == 0) continue;
      for (int64_t i = done[s]; i < done[s] + step[s]; ++i) {
        rows.push_back(start[s] + i);
        positions.push_back(i);
        slots.push_back(pages[s][i / KvPool::kPageSize] * KvPool::kPageSize +
                        i % KvPool::kPageSize);
      }
      done[s] += step[s];
      q_start.push_back(static_cast<int64_t>(rows.size()));
      kv_len.push_back(done[s]);
      page_rows.push_back(int32s(pages[s]).unsqueeze(0));
      input.layout.max_q = std::max(input.layout.max_q, step[s]);
      input.layout.max_kv = std::max(input.layout.max_kv, done[s]);
    }
    const Tensor row_ids = at::tensor(rows, at::kLong);
    input.tokens = values_.at("tokens").index_select(0, row_ids);
    input.positions = at::tensor(positions, at::kLong);
    input.kv = &pool;
    input.layout.q_start = int32s(q_start);
    input.layout.kv_len = int32s(kv_len);
    input.layout.pages = at::cat(page_rows);
    input.layout.slots = at::tensor(slots, at::kLong);
    input.capture_layers = all_layers(config);
    input.logit_rows = at::arange(row_ids.numel(), at::kLong);
    const ForwardOutput out = model_->forward(input);
    const auto expected = [&](const Tensor& all) { return all.index_select(0, row_ids); };
    EXPECT_LE(max_error(out.logits, expected(values_.at("logits"))), kTolerance);
    EXPECT_LE(max_error(out.hidden, expected(values_.at("hidden"))), kTolerance);
    EXPECT_LE(max_error(out.captured, expected(expected_captured_)), kTolerance);
  }
  EXPECT_EQ(done, length);
}

TEST_P(TinyModel, CapturesOnlyWhatIsAskedFor) {
  ForwardInput input = packed_input(values_.at("tokens"), values_.at("q_start"));
  const int64_t last = model_->config().layers - 1, width = model_->config().hidden;
  input.capture_layers = {0, last};
  input.logit_rows = Tensor();
  const ForwardOutput out = model_->forward(input);
  EXPECT_FALSE(out.logits.defined());
  EXPECT_LE(max_error(out.captured, at::cat({expected_captured_.narrow(1, 0, width),
                                             expected_captured_.narrow(1, last * width, width)},
                                            1)),
            kTolerance);
}

TEST_P(TinyModel, EmbeddingsReplaceTheLookup) {
  ForwardInput input = packed_input(values_.at("tokens"), values_.at("q_start"));
  input.embeds =
      model_->embed_weight().index_select(0, input.tokens) * model_->config().gemma.embed_scale;
  const Tensor before = input.embeds.clone();
  const ForwardOutput out = model_->forward(input);
  EXPECT_LE(max_error(out.logits, values_.at("logits")), kTolerance);
  EXPECT_TRUE(input.embeds.equal(before)) << "forward changed its input";
}

TEST_P(TinyModel, HeadRowsAreTheHead) {
  const Tensor ids = at::tensor({5, 0, 95, 17}, at::kLong);
  const Tensor logits = values_.at("hidden").matmul(model_->head_rows(ids).t());
  EXPECT_LE(max_error(logits, values_.at("logits").index_select(1, ids)), kTolerance);
}

TEST_P(TinyModel, GreedyContinuationEqualsTransformers) {
  const Tensor& expected = values_.at("greedy");
  Tensor tokens = expected.slice(0, 0, 9);
  while (tokens.numel() < expected.numel()) {
    ForwardInput input = packed_input(tokens, int32s({0, tokens.numel()}));
    input.logit_rows = at::tensor({tokens.numel() - 1}, at::kLong);
    tokens = at::cat({tokens, model_->forward(input).logits.argmax(1)});
  }
  EXPECT_TRUE(tokens.equal(expected)) << tokens << expected;
}

TEST_P(TinyModel, Bfloat16StaysNear) {
  const auto model = load_target(golden_dir() / "models" / GetParam(), at::kCPU, at::kBFloat16);
  const ForwardOutput out =
      model->forward(packed_input(values_.at("tokens"), values_.at("q_start")));
  const Tensor expected = values_.at("logits");
  const Tensor error = (out.logits - expected).norm() / expected.norm();
  // Rounding sends some rows of a mixture to other experts; Gemma 3 rounds at twice as many norms.
  const std::string name = GetParam();
  const bool rougher = name.ends_with("_moe") || name == "gemma3";
  EXPECT_LE(error.item<double>(), rougher ? 0.06 : 0.03);
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModel,
                         ::testing::Values("llama", "llama3_rope_tied", "mistral_linear_rope",
                                           "qwen2", "qwen3_tied", "llama_yarn_rope", "qwen3_moe",
                                           "qwen2_moe", "hunyuan_dense", "gemma3", "cosyvoice3"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace aerie::testing
