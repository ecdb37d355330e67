// The loss, every gradient and ten steps against PyTorch (scripts/make_golden_ttt.py), and the
// row-sparse form against the dense one.
#include "trainer/ttt_loss.h"

#include <gmock/gmock.h>

#include "data/safetensors.h"
#include "tests/testing.h"
#include "tests/trainer/dense_unroll.h"
#include "tests/trainer/tiny_draft.h"
#include "trainer/metrics.h"
#include "trainer/optimizer.h"
#include "trainer/schedule.h"

namespace aerie {
namespace {

constexpr int64_t kUnroll = 4;
constexpr double kDecay = 0.8;

/// A draft's parameters under `prefix` of the golden file, its pairs joined as the draft has them.
DraftParams golden_params(const SafetensorsFile& file, const std::string& prefix,
                          const DraftConfig& config) {
  DraftParams params;
  for (const ParamShape& shape : draft_param_shapes(config)) {
    const auto read = [&](const std::string& from, const std::string& to) {
      std::string name = shape.name;
      if (!from.empty()) name.replace(name.find(from), from.size(), to);
      return file.tensor(prefix + name).clone();
    };
    const bool kv = shape.name.find("kv_proj") != std::string::npos;
    const bool gate_up = shape.name.find("gate_up") != std::string::npos;
    params.tensors.emplace_back(
        shape.name, kv        ? at::cat({read("kv_proj", "k_proj"), read("kv_proj", "v_proj")})
                    : gate_up ? at::cat({read("gate_up", "gate"), read("gate_up", "up")})
                              : read("", ""));
  }
  return params;
}

TrainBatch golden_batch(const SafetensorsFile& file) {
  TrainBatch batch;
  batch.tokens = file.tensor("batch.tokens");
  batch.positions = file.tensor("batch.positions");
  batch.q_start = file.tensor("batch.q_start");
  batch.loss_mask = file.tensor("batch.loss_mask");
  batch.captured = file.tensor("batch.captured");
  batch.last_hidden = file.tensor("batch.last_hidden");
  return batch;
}

UnrollPlan plan_of(const TrainBatch& batch, int64_t unroll) {
  return plan_unroll(batch.tokens, batch.positions, batch.loss_mask, batch.q_start, unroll);
}

/// Largest difference, relative to the largest expected value.
double relative_error(const Tensor& actual, const Tensor& expected) {
  const Tensor want = expected.to(at::kDouble);
  return ((actual.detach().to(at::kDouble) - want).abs().max() / (want.abs().max() + 1e-12))
      .item<double>();
}

class GoldenTtt : public ::testing::Test {
 protected:
  static OptimSection options() {
    OptimSection optim;
    optim.lr = 3e-3;
    optim.weight_decay = 0.01;
    optim.clip = 0.3;
    optim.warmup_steps = 3;
    return optim;
  }

  SafetensorsFile file_{testing::golden_dir() / "ttt.safetensors"};
  DraftConfig config_ = testing::tiny_draft(16, 12, 9);
  TrainBatch batch_ = golden_batch(file_);
  UnrollPlan plan_ = plan_of(batch_, kUnroll);
  VocabMap vocab_ = make_vocab_map(file_.tensor("draft_to_target"), 12);
  ops::LinearWeight head_ = ops::pack_linear(file_.tensor("head").clone());
  TeacherHead teacher_{&head_, &vocab_};
  DraftParams params_ = golden_params(file_, "param.", config_);
  Optimizer optimizer_{params_, options()};
  Eagle3Draft draft_ = Eagle3Draft::trainable(config_, params_, file_.tensor("embed"), at::kFloat);
};

TEST_F(GoldenTtt, LossAndEveryGradientEqualPyTorch) {
  const ops::HeadLoss loss =
      ttt_loss(draft_, batch_, plan_, teacher_, {step_weights(kDecay, kUnroll)});
  const double pairs = static_cast<double>(plan_.pairs);
  EXPECT_NEAR(loss.total.item<double>() / pairs, file_.tensor("losses")[0].item<double>(), 1e-5);
  loss.total.backward();
  const DraftParams expected = golden_params(file_, "grad.", config_);
  for (const auto& [name, tensor] : params_.tensors) {
    EXPECT_LE(relative_error(tensor.grad() / pairs, expected.at(name)), 1e-5) << name;
  }
}

/// Input embeddings stand where prompt tokens would be looked up, and nowhere else: other tokens in
/// the prompts, or their embeddings beside the old tokens, are the same to the draft, to the bit.
TEST_F(GoldenTtt, InputEmbeddingsAreReadInPlaceOfPromptTokens) {
  const Tensor embed = file_.tensor("embed");
  const auto run = [&](const TrainBatch& batch) {
    for (auto& [name, tensor] : params_.tensors) tensor.mutable_grad() = Tensor();
    const ops::HeadLoss loss =
        ttt_loss(draft_, batch, plan_of(batch, kUnroll), teacher_, {step_weights(kDecay, kUnroll)});
    loss.total.backward();
    std::vector<Tensor> values{loss.total.detach()};
    for (const auto& [name, tensor] : params_.tensors) values.push_back(tensor.grad().clone());
    return values;
  };
  TrainBatch other = batch_;
  other.tokens = at::where(batch_.loss_mask, batch_.tokens, (batch_.tokens + 5) % 12);
  TrainBatch features = batch_;
  features.embeds = embed.index_select(0, other.tokens);
  const std::vector<Tensor> plain = run(batch_), wanted = run(other), read = run(features);
  for (size_t i = 0; i < read.size(); ++i) EXPECT_TRUE(at::equal(read[i], wanted[i])) << i;
  EXPECT_FALSE(at::equal(plain[0], wanted[0])) << "the prompts hardly matter";
}

TEST_F(GoldenTtt, MetricsEqualPyTorch) {
  UnrollMetrics metrics(kUnroll);
  metrics.add(plan_, ttt_loss(draft_, batch_, plan_, teacher_, {step_weights(kDecay, kUnroll)}));
  const Tensor count = file_.tensor("metric.count");
  double chains = 0, known = 0;
  for (int64_t k = 0; k < kUnroll; ++k) {
    const auto mean = [&](const char* name) {
      return file_.tensor(std::string("metric.") + name)[k].item<double>() /
             count[k].item<double>();
    };
    EXPECT_EQ(plan_.depths[k].count, count[k].item<int64_t>()) << k;
    EXPECT_NEAR(metrics.loss_by_depth()[k], mean("loss"), 1e-5) << k;
    EXPECT_NEAR(metrics.accuracy_by_depth()[k], mean("hits"), 1e-9) << k;
    EXPECT_NEAR(metrics.alpha_by_depth()[k], mean("alpha"), 1e-5) << k;
    EXPECT_NEAR(metrics.chain_by_depth()[k], mean("chain"), 1e-9) << k;
    chains += mean("chain");
    known += file_.tensor("metric.in_vocab")[k].item<double>();
  }
  EXPECT_NEAR(metrics.simulated_acceptance(), 1 + chains, 1e-9);
  EXPECT_NEAR(metrics.out_of_vocab(), 1 - known / static_cast<double>(plan_.pairs), 1e-9);
}

TEST_F(GoldenTtt, TenStepsEqualPyTorch) {
  for (int64_t step = 0; step < 10; ++step) {
    const ops::HeadLoss loss =
        ttt_loss(draft_, batch_, plan_, teacher_, {step_weights(kDecay, kUnroll)});
    const double pairs = static_cast<double>(plan_.pairs);
    EXPECT_NEAR(loss.total.item<double>() / pairs, file_.tensor("losses")[step].item<double>(),
                2e-5)
        << step;
    loss.total.backward();
    const double lr = learning_rate(options(), step, 10);
    EXPECT_NEAR(lr, file_.tensor("rates")[step].item<double>(), 1e-9) << step;
    const Optimizer::Report report = optimizer_.step(lr, 1 / pairs);
    EXPECT_NEAR(report.grad_norm, file_.tensor("norms")[step].item<double>(), 1e-4) << step;
    draft_.refresh();
  }
  const DraftParams trained = golden_params(file_, "trained.", config_);
  for (const auto& [name, tensor] : params_.tensors) {
    EXPECT_LE(relative_error(tensor, trained.at(name)), 1e-4) << name;
  }
}

/// A file of scripts/make_golden_ttt.py and the options that it was made with.
struct Variant {
  const char* name;
  void (*apply)(DraftConfig&);
};

class GoldenVariant : public ::testing::TestWithParam<Variant> {};

INSTANTIATE_TEST_SUITE_P(Variants, GoldenVariant,
                         ::testing::Values(Variant{"eagle31",
                                                   [](DraftConfig& config) {
                                                     config.fc_norm = config.norm_output = true;
                                                   }},
                                           Variant{"qwen3_deep",
                                                   [](DraftConfig& config) {
                                                     config.layers = 2;
                                                     config.qk_norm = true;
                                                     config.norm_before_residual = true;
                                                   }}),
                         [](const auto& variant) { return std::string(variant.param.name); });

TEST_P(GoldenVariant, LossAndEveryGradientEqualPyTorch) {
  const std::string name = fmt::format("ttt_{}.safetensors", GetParam().name);
  const SafetensorsFile file(testing::golden_dir() / name);
  DraftConfig config = testing::tiny_draft(16, 12, 9);
  GetParam().apply(config);
  DraftParams params = golden_params(file, "param.", config);
  for (auto& [key, tensor] : params.tensors) tensor.requires_grad_(true);
  const TrainBatch batch = golden_batch(file);
  const UnrollPlan plan = plan_of(batch, kUnroll);
  const VocabMap vocab = make_vocab_map(file.tensor("draft_to_target"), 12);
  const ops::LinearWeight head = ops::pack_linear(file.tensor("head").clone());
  const Eagle3Draft draft =
      Eagle3Draft::trainable(config, params, file.tensor("embed"), at::kFloat);
  const ops::HeadLoss loss =
      ttt_loss(draft, batch, plan, {&head, &vocab}, {step_weights(kDecay, kUnroll)});
  const double pairs = static_cast<double>(plan.pairs);
  EXPECT_NEAR(loss.total.item<double>() / pairs, file.tensor("loss").item<double>(), 1e-5);
  loss.total.backward();
  const DraftParams expected = golden_params(file, "grad.", config);
  for (const auto& [key, tensor] : params.tensors) {
    EXPECT_LE(relative_error(tensor.grad() / pairs, expected.at(key)), 2e-5) << key;
  }
}

/// Documents of random lengths with random, gappy masks.
TrainBatch random_batch(const DraftConfig& config, const std::vector<int64_t>& lengths) {
  TrainBatch batch;
  std::vector<int32_t> starts{0};
  std::vector<Tensor> positions;
  for (const int64_t length : lengths) {
    starts.push_back(starts.back() + static_cast<int32_t>(length));
    positions.push_back(at::arange(length));
  }
  const int64_t n = starts.back();
  batch.tokens = at::randint(config.vocab, {n}, at::kLong);
  batch.positions = at::cat(positions);
  batch.q_start = at::tensor(starts, at::kInt);
  batch.loss_mask = at::rand({n}).lt(0.75);
  batch.captured = at::randn({n, 3 * config.hidden});
  batch.last_hidden = at::randn({n, config.hidden});
  return batch;
}

TrainBatch in_double(TrainBatch batch) {
  batch.captured = batch.captured.to(at::kDouble);
  batch.last_hidden = batch.last_hidden.to(at::kDouble);
  return batch;
}

class RowSparseUnroll : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(Windows, RowSparseUnroll, ::testing::Values(0, 5, 8, 1000));

TEST_P(RowSparseUnroll, EqualsTheDenseFormInLossAndEveryGradient) {
  at::manual_seed(11);
  DraftConfig config = testing::tiny_draft(16, 50, 30);
  config.window = GetParam();
  const VocabMap vocab = make_vocab_map(std::get<0>(at::randperm(50).narrow(0, 0, 30).sort()), 50);
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{40}, {7, 23, 1, 18}, {2, 3, 5, 8, 13, 21}}) {
    const TrainBatch batch = random_batch(config, lengths);
    const Tensor embed = at::randn({50, 16}), head = at::randn({50, 16});
    DraftParams sparse, dense;
    for (const ParamShape& param : draft_param_shapes(config)) {
      Tensor value = at::randn(param.shape) * 0.2 + (param.matrix() ? 0.0 : 1.0);
      dense.tensors.emplace_back(param.name, value.to(at::kDouble).requires_grad_(true));
      sparse.tensors.emplace_back(param.name, value.requires_grad_(true));
    }
    const ops::LinearWeight packed = ops::pack_linear(head.clone());
    const Eagle3Draft draft = Eagle3Draft::trainable(config, sparse, embed, at::kFloat);
    const UnrollPlan plan = plan_of(batch, 5);
    const ops::HeadLoss loss =
        ttt_loss(draft, batch, plan, {&packed, &vocab}, {step_weights(0.9, 5)});
    loss.total.backward();

    const TrainBatch wide = in_double(batch);
    const Tensor wide_embed = embed.to(at::kDouble), wide_head = head.to(at::kDouble);
    const testing::DenseUnroll oracle{config, dense, wide, wide_embed, wide_head, vocab};
    const auto [expected, pairs] = oracle.loss(5, 0.9);
    expected.backward();
    EXPECT_EQ(plan.pairs, pairs);
    EXPECT_NEAR(loss.total.item<double>() / expected.item<double>(), 1.0, 1e-5);
    for (const auto& [name, tensor] : sparse.tensors) {
      EXPECT_LE(relative_error(tensor.grad(), dense.at(name).grad()), 1e-5) << name;
    }
  }
}

TEST(Window, TooNarrowForTheUnrollIsRefused) {
  DraftConfig config = testing::tiny_draft(16, 50, 30);
  config.window = 4;
  EXPECT_EQ(testing::error_of([&] { check_window(config, 4); }), testing::kNoError);
  EXPECT_THAT(testing::error_of([&] { check_window(config, 5); }),
              ::testing::HasSubstr("draft.window is 4, and at the last of 5 unroll steps"));
}

/// Gradients of one batch, by parameter, computed in `type`.
DraftParams gradients_in(at::ScalarType type, const DraftConfig& config, const TrainBatch& batch,
                         const VocabMap& vocab, const Tensor& embed, const Tensor& head) {
  DraftParams params =
      init_draft(config, {{"lm_head.weight", head.index_select(0, vocab.draft_to_target)}}, 3);
  for (auto& [name, tensor] : params.tensors) tensor.requires_grad_(true);
  const ops::LinearWeight packed = ops::pack_linear(head.to(type));
  const Eagle3Draft draft = Eagle3Draft::trainable(config, params, embed.to(type), type);
  TrainBatch typed = batch;
  typed.captured = batch.captured.to(type);
  typed.last_hidden = batch.last_hidden.to(type);
  ttt_loss(draft, typed, plan_of(batch, 4), {&packed, &vocab}, {step_weights(0.8, 4)})
      .total.backward();
  DraftParams gradients;
  for (const auto& [name, tensor] : params.tensors)
    gradients.tensors.emplace_back(name, tensor.grad());
  return gradients;
}

class Bf16Unroll : public ::testing::TestWithParam<int64_t> {};

INSTANTIATE_TEST_SUITE_P(Windows, Bf16Unroll, ::testing::Values(0, 40));

TEST_P(Bf16Unroll, GradientsPointWhereF32Does) {
  at::manual_seed(5);
  DraftConfig config = testing::tiny_draft(576, 3000, 1000);
  config.intermediate = 1536;
  config.heads = 9;
  config.kv_heads = 3;
  config.head_dim = 64;
  config.max_position = 512;
  config.window = GetParam();
  const VocabMap vocab = make_vocab_map(at::arange(1000) * 3, 3000);
  const TrainBatch batch = random_batch(config, {130, 70, 200});
  const Tensor embed = at::randn({3000, 576}) * 0.1, head = at::randn({3000, 576}) * 0.1;
  const DraftParams wide = gradients_in(at::kFloat, config, batch, vocab, embed, head);
  const DraftParams narrow = gradients_in(at::kBFloat16, config, batch, vocab, embed, head);
  for (const auto& [name, expected] : wide.tensors) {
    const Tensor actual = narrow.at(name).flatten(), want = expected.flatten();
    const double cosine = (actual.dot(want) / (actual.norm() * want.norm())).item<double>();
    EXPECT_GT(cosine, 0.99) << name;
    EXPECT_NEAR((actual.norm() / want.norm()).item<double>(), 1.0, 0.03) << name;
  }
}

TEST(StepWeights, FallByTheDecay) {
  const std::vector<double> weights = step_weights(0.5, 3);
  EXPECT_EQ(weights, (std::vector<double>{1.0, 0.5, 0.25}));
}

}  // namespace
}  // namespace aerie
