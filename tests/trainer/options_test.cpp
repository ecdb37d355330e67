// Options of the trainer: recomputed activations, sampled depths, noise, averaged weights.
#include <gmock/gmock.h>

#include "data/safetensors.h"
#include "tests/testing.h"
#include "tests/trainer/tiny_draft.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/batch_draws.h"
#include "trainer/checkpoint.h"
#include "trainer/commands.h"
#include "trainer/metrics.h"
#include "trainer/ttt_loss.h"

namespace aerie {
namespace {

using testing::Scratch;
using testing::tiny_run;

TrainBatch random_batch(int64_t hidden, at::ScalarType type) {
  at::manual_seed(4);
  TrainBatch batch;
  batch.tokens = at::randint(50, {64}, at::kLong);
  batch.positions = at::cat({at::arange(40), at::arange(24)});
  batch.q_start = at::tensor({0, 40, 64}, at::kInt);
  batch.loss_mask = at::rand({64}).lt(0.9);
  batch.captured = at::randn({64, 3 * hidden}).to(type);
  batch.last_hidden = at::randn({64, hidden}).to(type);
  batch.documents = {"one", "two"};
  return batch;
}

/// Loss and gradients of one batch.
std::pair<Tensor, DraftParams> gradients(const DraftConfig& config, at::ScalarType type,
                                         bool recompute) {
  const TrainBatch batch = random_batch(config.hidden, type);
  DraftParams params = init_draft(config, {}, 3);
  for (auto& [name, tensor] : params.tensors) tensor.requires_grad_(true);
  const Tensor embed = at::randn({50, config.hidden}), head = at::randn({50, config.hidden});
  const ops::LinearWeight packed = ops::pack_linear(head.to(type));
  const VocabMap vocab = make_vocab_map(at::arange(30), 50);
  const Eagle3Draft draft = Eagle3Draft::trainable(config, params, embed.to(type), type);
  const UnrollPlan plan =
      plan_unroll(batch.tokens, batch.positions, batch.loss_mask, batch.q_start, 4);
  const ops::HeadLoss loss =
      ttt_loss(draft, batch, plan, {&packed, &vocab}, {step_weights(0.8, 4), {}, recompute});
  loss.total.backward();
  DraftParams grads;
  for (const auto& [name, tensor] : params.tensors) {
    grads.tensors.emplace_back(name, tensor.grad());
  }
  return {loss.total.detach(), grads};
}

TEST(Recompute, GivesTheSameLossAndGradientsUpToTheOrderOfSums) {
  DraftConfig plain = testing::tiny_draft(32, 50, 30), deep = plain;
  deep.layers = 2;
  deep.norm_output = true;
  for (const DraftConfig& config : {plain, deep}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(fmt::format("{} layers, {}", config.layers, c10::toString(type)));
      const auto [loss, kept] = gradients(config, type, false);
      const auto [again, recomputed] = gradients(config, type, true);
      EXPECT_TRUE(loss.equal(again));
      for (const auto& [name, grad] : kept.tensors) {
        const Tensor difference = (grad - recomputed.at(name)).norm() / grad.norm();
        EXPECT_LE(difference.item<double>(), type == at::kFloat ? 1e-6 : 1e-2) << name;
      }
    }
  }
}

TEST(Objective, TakesItsWeightsFromTheListOrTheDecay) {
  TrainSection train;
  train.unroll = 3;
  train.step_decay = 0.5;
  EXPECT_EQ(objective_of(train).step_weights, (std::vector<double>{1, 0.5, 0.25}));
  train.step_weights = {1, 0, 2};
  train.loss = "lk_lambda";
  train.lk_decay = 1.5;
  const Objective objective = objective_of(train);
  EXPECT_EQ(objective.step_weights, train.step_weights);
  EXPECT_EQ(objective.mix.lk_decay, 1.5);
  train.step_weights = {1, 2};
  EXPECT_THAT(testing::error_of([&] { objective_of(train); }),
              ::testing::HasSubstr("train.step_weights has 2 weights, and train.unroll is 3"));
  train.step_weights = {};
  train.loss = "lk";
  EXPECT_THAT(testing::error_of([&] { objective_of(train); }),
              ::testing::HasSubstr("train.loss is \"lk\""));
}

TEST(BatchDraws, BelongToTheDocumentNotToThePack) {
  const TrainBatch batch = random_batch(8, at::kFloat);
  const std::vector<uint64_t> keys = document_keys(batch, 5);
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_NE(keys[0], keys[1]);
  TrainBatch later = batch;
  later.epoch = 1;
  EXPECT_NE(document_keys(later, 5)[0], keys[0]) << "another epoch draws anew";
  EXPECT_NE(document_keys(batch, 6)[0], keys[0]);

  TrainBatch noisy = batch, alone = batch;
  add_feature_noise(noisy, 0.25, keys);
  const Tensor noise = noisy.captured - batch.captured;
  EXPECT_LE(noise.abs().max().item<float>(), 0.25F + 1e-5F);
  EXPECT_NEAR(noise.mean().item<float>(), 0, 0.02);
  EXPECT_NEAR(noise.std().item<float>(), 0.25 / std::sqrt(3.0), 0.01);
  alone.captured = batch.captured.narrow(0, 40, 24);
  alone.q_start = at::tensor({0, 24}, at::kInt);
  alone.documents = {"two"};
  add_feature_noise(alone, 0.25, document_keys(alone, 5));
  EXPECT_TRUE(alone.captured.equal(noisy.captured.narrow(0, 40, 24)));
}

/// Trains the tiny run with everything that draws or averages.
RunConfig with_options(const fs::path& directory, const std::string& name) {
  RunConfig config = tiny_run(directory, name);
  config.train.depth_keep = 0.6;
  config.train.feature_noise = 0.05;
  config.train.loss = "0.7 kl + 0.3 lk_lambda";
  config.train.recompute = true;
  config.optim.ema = 0.9;
  config.draft.layers = 2;
  config.draft.window = 12;
  config.draft.norm_output = config.draft.fc_norm = true;
  return config;
}

TEST(OptionsRun, AWindowAsLongAsTheTextsChangesNoBit) {
  const Scratch directory;
  const auto trained = [&](const std::string& name, int64_t window) {
    RunConfig config = tiny_run(directory.path(), name);
    config.train.max_steps = 3;
    config.draft.window = window;
    train_command(config, {}, {});
    return read_file(config.output.dir / "latest/masters.safetensors");
  };
  const std::string whole = trained("whole", 0);
  EXPECT_TRUE(trained("long", 500) == whole);
  EXPECT_FALSE(trained("short", 8) == whole);
}

TEST(OptionsRun, AWindowThatTheUnrollFillsIsRefused) {
  const Scratch directory;
  RunConfig config = tiny_run(directory.path(), "narrow");
  config.draft.window = config.train.unroll - 1;
  EXPECT_THAT(testing::error_of([&] { train_command(config, {}, {}); }),
              ::testing::HasSubstr("draft.window is 2"));
  config.draft.window = 8;
  config.draft.serve_with = "sglang";
  EXPECT_THAT(testing::error_of([&] { train_command(config, {}, {}); }),
              ::testing::HasSubstr("draft.window: a draft for sglang"));
}

TEST(OptionsRun, ResumesExactlyAndItsDraftIsTheAverage) {
  const Scratch directory;
  RunConfig whole = with_options(directory.path(), "whole");
  whole.train.max_steps = 9;
  train_command(whole, {}, {});
  // Stopped behind the checkpoint of step 6, by taking the later ones away.
  RunConfig cut = with_options(directory.path(), "cut");
  cut.train.max_steps = 9;
  cut.train.keep_checkpoints = 9;
  train_command(cut, {}, {});
  const fs::path run = cut.output.dir;
  fs::remove_all(run / "step-000009");
  replace_symlink(run / "latest", "step-000006");
  train_command(cut, {}, {});
  for (const char* file : {"masters.safetensors", "moments.safetensors", "average.safetensors",
                           "draft/model.safetensors", "draft/config.json"}) {
    EXPECT_EQ(hash_hex(read_file(run / "latest" / file)),
              hash_hex(read_file(whole.output.dir / "latest" / file)))
        << file;
  }
  const DraftParams masters = read_masters(run / "latest"), result = read_result(run / "latest");
  EXPECT_FALSE(masters.at("fc.weight").equal(result.at("fc.weight")));
  const SafetensorsFile draft(run / "latest/draft/model.safetensors");
  EXPECT_TRUE(draft.tensor("fc.weight").equal(result.at("fc.weight").to(at::kBFloat16)));
}

TEST(OptionsRun, IsRefusedWhereTheEngineCannotServeIt) {
  const Scratch directory;
  RunConfig config = with_options(directory.path(), "run");
  config.draft.serve_with = "gguf";
  EXPECT_THAT(testing::error_of([&] { train_command(config, {}, {}); }),
              ::testing::AllOf(::testing::HasSubstr("draft.layers above 1"),
                               ::testing::HasSubstr("gguf"), ::testing::HasSubstr("vllm")));
}

}  // namespace
}  // namespace aerie
