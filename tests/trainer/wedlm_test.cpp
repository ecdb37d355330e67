// Conversion of a target to diffusion: loss and every gradient against the explicit mask, the
// network that is saved against the one that decodes, a run and its resumption.
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "data/draws.h"
#include "target_models/model.h"
#include "target_models/trained_files.h"
#include "tests/testing.h"
#include "tests/trainer/dense_dual_stream.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/dual_stream_loss.h"
#include "trainer/wedlm_trainer.h"

namespace aerie {
namespace {

using testing::DenseDualStream;
using testing::MaskedDocument;
using testing::Scratch;

/// Two documents of 13 and 21 tokens of which the assistant wrote all but the first 5.
struct TwoDocuments {
  TwoDocuments() {
    at::manual_seed(2);
    tokens = at::randint(3, 90, {34}, at::kLong);
    const Tensor positions = at::cat({at::arange(13), at::arange(21)});
    loss_mask = positions.ge(5);
    q_start = at::tensor({0, 13, 34}, at::kInt);
  }
  Tensor tokens, loss_mask, q_start;
  std::vector<uint64_t> keys{11, 12};
};

/// The same documents with the masks that the plan has drawn; weights by the documented draw.
std::vector<MaskedDocument> masked_documents(const TwoDocuments& text, const DualStream& plan,
                                             int64_t block) {
  const std::vector<int64_t> starts{0, 13, 34};
  std::vector<MaskedDocument> documents(2);
  for (size_t s = 0; s < 2; ++s) {
    for (int64_t row = starts[s]; row < starts[s + 1]; ++row) {
      documents[s].tokens.push_back(text.tokens[row].item<int64_t>());
      documents[s].assistant.push_back(text.loss_mask[row].item<bool>());
    }
    const int64_t length = starts[s + 1] - starts[s];
    documents[s].masked.resize(length);
    for (int64_t begin = 0; begin < length; begin += block) {
      documents[s].weight.push_back(1 / uniform_draw(text.keys[s], 2 * begin));
    }
  }
  for (const DualStream::Column& column : plan.columns) {
    for (int64_t i = 0; i < column.rows(); ++i) {
      const int64_t row = plan.clean + column.begin + i, base = column.base[i].item<int64_t>();
      if (!plan.masked[row].item<bool>()) continue;
      documents[base < 13 ? 0 : 1].masked[plan.positions[row].item<int64_t>()] = true;
    }
  }
  return documents;
}

TEST(DualStream, ABlockIsTheUnmaskedTokensThenItsMasksAtTheirTruePlaces) {
  const TwoDocuments text;
  const DualStream plan =
      plan_dual_stream(text.tokens, text.loss_mask, text.q_start, text.keys, {4, 1.0});
  const std::vector<MaskedDocument> documents = masked_documents(text, plan, 4);
  int64_t masks = 0;
  for (size_t s = 0; s < 2; ++s) {
    const MaskedDocument& document = documents[s];
    for (size_t begin = 0; begin < document.tokens.size(); begin += 4) {
      int64_t maskable = 0, masked = 0;
      for (size_t i = begin; i < std::min(begin + 4, document.tokens.size()); ++i) {
        maskable += document.assistant[i];
        masked += document.masked[i];
        EXPECT_TRUE(document.assistant[i] || !document.masked[i]) << "a prompt's token is masked";
      }
      const double share = 1 / document.weight[begin / 4];
      if (begin == 0) maskable = 0;
      EXPECT_EQ(masked, std::nearbyint(static_cast<double>(maskable) * share));
      masks += masked;
    }
  }
  EXPECT_EQ(plan.masks, masks);
  EXPECT_GT(masks, 4);
  EXPECT_EQ(plan.next, 8 + 16);
  EXPECT_NEAR(plan.weights.narrow(0, 0, plan.masks).sum().item<double>(), 0.5, 1e-6);
  EXPECT_NEAR(plan.weights.sum().item<double>(), 1.0, 1e-6);
  // Within a copy no mask stands before a token: from column to column a copy's rows stay masks.
  for (size_t c = 1; c < plan.columns.size(); ++c) {
    const DualStream::Column& column = plan.columns[c];
    const Tensor earlier =
        column.earlier[c - 1].defined() ? column.earlier[c - 1] : at::arange(column.rows());
    for (int64_t i = 0; i < column.rows(); ++i) {
      const int64_t now = plan.clean + column.begin + i;
      const int64_t before = plan.clean + plan.columns[c - 1].begin + earlier[i].item<int64_t>();
      EXPECT_LE(plan.masked[before].item<bool>(), plan.masked[now].item<bool>());
    }
  }
}

double relative_gap(const Tensor& actual, const Tensor& expected) {
  const Tensor want = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - want).abs().max() / (want.abs().max() + 1e-12)).item<double>();
}

class Family : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path source() const { return testing::golden_dir() / "models" / GetParam(); }
  /// The golden model's weights, each a leaf of `type`; the mask is something of its own.
  std::map<std::string, Tensor> leaves(at::ScalarType type) const {
    std::map<std::string, Tensor> all;
    for (const auto& [name, tensor] : read_trainable(source())) {
      const Tensor value = name == "mask_embedding" ? tensor + 0.3 : tensor;
      all[name] = value.to(type).clone().requires_grad_(true);
    }
    return all;
  }
};

TEST_P(Family, LossAndEveryGradientAreThoseOfTheExplicitMask) {
  const TwoDocuments text;
  const ModelConfig config = trainable_config(source());
  const Vocabulary vocabulary = read_vocabulary(source(), config);
  for (const int64_t block : {4, 8}) {
    const DualStream plan =
        plan_dual_stream(text.tokens, text.loss_mask, text.q_start, text.keys, {block, 0.7});
    const auto weights = leaves(at::kFloat);
    const TrainableTarget target(
        source(), [&](const std::string& name) { return weights.at(name); }, at::kFloat);
    const DualStreamLoss loss = dual_stream_loss(target, plan);
    loss.total.backward();

    const DenseDualStream dense(config, leaves(at::kDouble), vocabulary.embed.to(at::kDouble),
                                vocabulary.head.to(at::kDouble));
    const Tensor expected = dense.loss(masked_documents(text, plan, block), block, 0.7);
    expected.backward();
    EXPECT_NEAR(loss.weighted, expected.item<double>(), 1e-5) << "block " << block;
    for (const auto& [name, tensor] : weights) {
      EXPECT_LT(relative_gap(tensor.grad(), dense.weight(name).grad()), 2e-4)
          << name << ", block " << block;
    }
  }
}

TEST_P(Family, WhatIsSavedDecodesAsItWasTrained) {
  const auto weights = leaves(at::kFloat);
  const TrainableTarget trained(
      source(), [&](const std::string& name) { return weights.at(name); }, at::kFloat);
  const Scratch directory;
  write_trained(source(), directory / "target", {weights.begin(), weights.end()});
  const auto target = load_target(directory / "target", at::kCPU, at::kFloat);
  const int64_t mask = target->config().mask_token;
  EXPECT_EQ(mask, trained.config().vocab);
  EXPECT_EQ(target->config().vocab, mask + 1);

  const Tensor tokens = at::tensor({5, 9, int(mask), 30, int(mask), int(mask)}, at::kLong);
  const Tensor q_start = at::tensor({0, 6}, at::kInt), all = at::arange(6);
  ForwardInput input;
  input.tokens = tokens;
  input.positions = all;
  input.layout.q_start = q_start;
  input.layout.max_q = input.layout.max_kv = 6;
  input.logit_rows = all;
  const ForwardOutput output = target->forward(input);
  const double scale = 1 / std::sqrt(static_cast<double>(target->config().head_dim));
  const Tensor hidden =
      trained.hidden(tokens.remainder(mask), all, tokens.eq(mask),
                     [&](const Tensor& q, const Tensor& k, const Tensor& v) {
                       return ops::ttt_attention(q, all, k, v, q_start, {}, {}, scale);
                     });
  EXPECT_LT(relative_gap(output.hidden, hidden.detach()), 1e-5);
  EXPECT_TRUE(output.logits.select(1, mask).isinf().all().item<bool>()) << "the mask can be said";
}

INSTANTIATE_TEST_SUITE_P(Trainable, Family, ::testing::Values("llama", "qwen2", "qwen3_tied"));

TEST(Wedlm, OtherFamiliesAreRefusedByName) {
  EXPECT_THAT(testing::error_of([] { read_trainable(testing::golden_dir() / "models/gemma3"); }),
              ::testing::HasSubstr("\"gemma3_text\" cannot be trained yet"));
}

RunConfig wedlm_run(const Scratch& directory, const char* name) {
  RunConfig config = testing::tiny_run(directory.path(), name);
  config.train.objective = "wedlm";
  config.train.block = 4;
  config.train.checkpoint_every = 4;
  config.train.keep_checkpoints = 9;
  config.optim.lr = 5e-3;
  return config;
}

std::vector<nlohmann::json> lines_of_kind(const fs::path& file, const std::string& kind) {
  std::vector<nlohmann::json> lines;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    nlohmann::json parsed = nlohmann::json::parse(line);
    if (parsed.at("kind") == kind) lines.push_back(std::move(parsed));
  }
  return lines;
}

TEST(Wedlm, ARunLearnsGoesOnExactlyAndLeavesATargetThatLoads) {
  log_quiet();
  const Scratch directory;
  const RunConfig config = wedlm_run(directory, "run");
  train_command(config, {}, {});
  const fs::path run = config.output.dir;
  const auto evaluations = lines_of_kind(run / "metrics.jsonl", "eval");
  ASSERT_GE(evaluations.size(), 2u);
  EXPECT_LT(evaluations.back().at("masked_loss"), evaluations.front().at("masked_loss"));
  EXPECT_LT(evaluations.back().at("next_loss"), evaluations.front().at("next_loss"));
  const auto target = load_target(run / "latest/target", at::kCPU, at::kBFloat16);
  EXPECT_EQ(target->config().mask_token + 1, target->config().vocab);

  const fs::path last = fs::canonical(run / "latest");
  const std::vector<std::string> files{"masters.safetensors", "moments.safetensors",
                                       "target/model.safetensors"};
  std::vector<std::string> hashes;
  for (const std::string& file : files) hashes.push_back(hash_file(last / file));
  const size_t lines = lines_of_kind(run / "metrics.jsonl", "train").size();
  TrainFlags again;
  again.resume = (run / "step-000008").string();
  ASSERT_TRUE(fs::exists(again.resume));
  train_command(config, again, {});
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(hash_file(fs::canonical(run / "latest") / files[i]), hashes[i]) << files[i];
  }
  EXPECT_EQ(lines_of_kind(run / "metrics.jsonl", "train").size(), lines);

  RunConfig other = config;
  other.train.block = 16;
  EXPECT_THAT(testing::error_of([&] { train_command(other, {}, {}); }),
              ::testing::HasSubstr("train.block: was 4, is 16"));
}

}  // namespace
}  // namespace aerie
