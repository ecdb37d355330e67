// The loop's own rules, on a made-up target: no file is read, no model is run.
#include "trainer/trainer.h"

#include <gmock/gmock.h>

#include <chrono>
#include <fstream>
#include <limits>

#include "common/error.h"
#include "common/files.h"
#include "tests/testing.h"
#include "tests/trainer/tiny_draft.h"
#include "trainer/run_history.h"

namespace aerie {
namespace {

using testing::error_of;
using testing::Scratch;
using ::testing::TestInfo;

constexpr int64_t kVocab = 40, kHidden = 16, kRows = 24;

/// Has an embedding and a head; its forward is never asked for.
class HeadOnlyTarget : public TargetModel {
 public:
  HeadOnlyTarget() {
    at::manual_seed(1);
    weight_ = at::randn({kVocab, kHidden});
    head_ = ops::pack_linear(weight_.clone());
  }
  ForwardOutput forward(const ForwardInput&) const override { fail("not part of these tests"); }
  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return weight_; }
  const ops::LinearWeight& head() const override { return head_; }
  Tensor head_rows(const Tensor& ids) const override { return weight_.index_select(0, ids); }
  at::ScalarType dtype() const override { return at::kFloat; }
  at::Device device() const override { return at::kCPU; }

 private:
  ModelConfig config_;
  Tensor weight_;
  ops::LinearWeight head_;
};

TrainBatch make_batch(int64_t seed) {
  at::manual_seed(seed);
  TrainBatch batch;
  batch.tokens = at::randint(kVocab, {kRows}, at::kLong);
  batch.positions = at::arange(kRows);
  batch.q_start = at::tensor({0, static_cast<int>(kRows)}, at::kInt);
  batch.loss_mask = at::arange(kRows).ge(6);
  batch.captured = at::randn({kRows, 3 * kHidden});
  batch.last_hidden = at::randn({kRows, kHidden});
  batch.max_len = kRows;
  batch.documents = {"doc-" + std::to_string(seed)};
  return batch;
}

/// Two batches as one, as the packer would have packed them.
TrainBatch join(const TrainBatch& a, const TrainBatch& b) {
  TrainBatch both;
  both.tokens = at::cat({a.tokens, b.tokens});
  both.positions = at::cat({a.positions, b.positions});
  both.q_start = at::tensor({0, static_cast<int>(kRows), 2 * static_cast<int>(kRows)}, at::kInt);
  both.loss_mask = at::cat({a.loss_mask, b.loss_mask});
  both.captured = at::cat({a.captured, b.captured});
  both.last_hidden = at::cat({a.last_hidden, b.last_hidden});
  return both;
}

class ListSource : public HiddenStateSource {
 public:
  explicit ListSource(std::vector<TrainBatch> batches) : batches_(std::move(batches)) {}
  std::optional<TrainBatch> next() override {
    if (place_ >= batches_.size()) return std::nullopt;
    return batches_[place_++];
  }
  std::string cursor() const override { return std::to_string(place_); }
  void seek(const std::string& cursor) override { place_ = std::stoul(cursor); }
  int64_t total_batches() const override { return static_cast<int64_t>(batches_.size()); }

 private:
  std::vector<TrainBatch> batches_;
  size_t place_ = 0;
};

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    config_.train.unroll = 3;
    config_.train.depth_keep = 1;
    config_.train.checkpoint_every = 0;
    config_.optim.warmup_steps = 0;
    config_.output.dir = directory_.path();
  }
  std::unique_ptr<Trainer> trainer(HiddenStateSource& source,
                                   HiddenStateSource* heldout = nullptr) {
    const VocabMap vocab = make_vocab_map(at::arange(30) + 5, kVocab);
    TrainerParts parts{config_,   target_,  testing::tiny_draft(kHidden, kVocab, 30),
                       vocab,     source,   heldout,
                       {},        measure_, {},
                       at::kFloat};
    if (measure_) parts.prompts = {{{1, 2, 3}, {}}};
    return std::make_unique<Trainer>(std::move(parts),
                                     init_draft(testing::tiny_draft(kHidden, kVocab, 30), {}, 4));
  }

  Scratch directory_;
  RunConfig config_;
  HeadOnlyTarget target_;
  MeasureAcceptance measure_;
};

TEST_F(TrainerTest, LearnsItsBatchByHeart) {
  ListSource source(std::vector<TrainBatch>(30, make_batch(1)));
  config_.optim.lr = 1e-2;
  const auto trainer = this->trainer(source);
  UnrollMetrics first(3), last(3);
  trainer->step(first);
  for (int i = 0; i < 28; ++i) last = UnrollMetrics(3), trainer->step(last);
  EXPECT_LT(last.loss(), 0.5 * first.loss());
  EXPECT_GT(last.simulated_acceptance(), first.simulated_acceptance());
  EXPECT_EQ(trainer->state().step, 29);
  EXPECT_EQ(trainer->state().tokens, 29 * kRows);
  EXPECT_EQ(trainer->state().supervised, 29 * (kRows - 6));
}

TEST_F(TrainerTest, TwoAccumulatedBatchesEqualOneOfBoth) {
  const TrainBatch a = make_batch(1);
  TrainBatch b = make_batch(2);
  b.loss_mask = at::arange(kRows).ge(15);  // fewer pairs: the normaliser must count both
  UnrollMetrics left(3), right(3);
  config_.train.accumulate = 2;
  ListSource two({a, b});
  const auto apart = trainer(two);
  const StepReport from_two = apart->step(left);
  config_.train.accumulate = 1;
  ListSource one({join(a, b)});
  const auto together = trainer(one);
  const StepReport from_one = together->step(right);
  EXPECT_EQ(apart->state().step, 1);
  EXPECT_EQ(left.pairs(), right.pairs());
  EXPECT_NEAR(left.loss(), right.loss(), 1e-5);
  EXPECT_NEAR(from_two.grad_norm / from_one.grad_norm, 1.0, 1e-5);
}

TEST_F(TrainerTest, ABatchWithNothingToLearnIsPassedOver) {
  TrainBatch empty = make_batch(1);
  empty.loss_mask.zero_();
  ListSource source({empty, make_batch(2)});
  const auto trainer = this->trainer(source);
  UnrollMetrics metrics(3);
  EXPECT_TRUE(trainer->step(metrics).trained);
  EXPECT_EQ(trainer->state().step, 1);
  EXPECT_FALSE(trainer->step(metrics).trained);
}

/// Never ends, as data without a limit of passes.
class BarrenSource : public HiddenStateSource {
 public:
  std::optional<TrainBatch> next() override {
    TrainBatch batch = make_batch(1);
    batch.loss_mask.zero_();
    batch.epoch = place_++ / 2;
    return batch;
  }
  std::string cursor() const override { return std::to_string(place_); }
  void seek(const std::string& cursor) override { place_ = std::stol(cursor); }
  int64_t total_batches() const override { return 2; }

 private:
  int64_t place_ = 0;
};

TEST_F(TrainerTest, DataWithNothingToLearnAreRefused) {
  config_.train.pack_tokens = 16;
  config_.train.max_steps = 3;
  BarrenSource endless;
  const auto expected = ::testing::HasSubstr("no token to train on within the first 16");
  EXPECT_THAT(error_of([&] { trainer(endless)->run(); }), expected);
  config_.train.max_steps = 0;
  TrainBatch empty = make_batch(1);
  empty.loss_mask.zero_();
  ListSource once({empty, empty});
  EXPECT_THAT(error_of([&] { trainer(once)->run(); }), expected);
  EXPECT_FALSE(fs::exists(directory_ / "latest"));
}

TEST_F(TrainerTest, ANanBatchIsSkippedAndCounted) {
  TrainBatch bad = make_batch(2);
  bad.captured[10][3] = std::numeric_limits<float>::quiet_NaN();
  ListSource source({make_batch(1), bad, make_batch(3)});
  const auto trainer = this->trainer(source);
  UnrollMetrics metrics(3);
  trainer->step(metrics);
  const Tensor before = trainer->params().at("fc.weight").detach().clone();
  const StepReport skipped = trainer->step(metrics);
  EXPECT_TRUE(skipped.trained);
  EXPECT_FALSE(skipped.applied);
  EXPECT_EQ(trainer->state().skipped_steps, 1);
  EXPECT_TRUE(before.equal(trainer->params().at("fc.weight")));
  EXPECT_TRUE(trainer->step(metrics).applied) << "the next batch trains again";
  EXPECT_TRUE(std::isfinite(metrics.loss())) << "skipped steps stay out of the metrics";
  EXPECT_EQ(trainer->state().updates, 2);
}

TEST_F(TrainerTest, NanForeverStopsNamingTheDocuments) {
  TrainBatch bad = make_batch(77);
  bad.last_hidden.fill_(std::numeric_limits<float>::quiet_NaN());
  ListSource source(std::vector<TrainBatch>(10, bad));
  const auto trainer = this->trainer(source);
  try {
    trainer->run();
    FAIL() << "training went on with nothing finite";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("doc-77"), std::string::npos) << error.what();
  }
  EXPECT_EQ(trainer->state().skipped_steps, 5);
}

TEST_F(TrainerTest, BestIsByMeasuredAcceptanceNotByLoss) {
  std::vector<TrainBatch> batches;
  for (int64_t i = 0; i < 6; ++i) batches.push_back(make_batch(i % 2));
  ListSource source(batches), heldout({make_batch(9)});
  config_.eval.every = 2;
  const double measured[] = {1.5, 1.9, 1.7};
  int calls = 0;
  measure_ = [&](const TargetModel&, const DraftConfig&, const DraftParams&, const VocabMap&,
                 const std::vector<MediaTokens>& prompts) {
    EXPECT_EQ(prompts.size(), 1u);
    return Acceptance{measured[calls++], {0.5}, {}, 3.5 - calls};  // in trees the first is best
  };
  const auto trainer = this->trainer(source, &heldout);
  EXPECT_TRUE(trainer->run());
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(trainer->state().best.step, 4);
  EXPECT_EQ(trainer->state().best.value, 1.9);
  EXPECT_EQ(trainer->state().best.metric, "acceptance");
  EXPECT_EQ(read_state(directory_ / "best").step, 4);
  EXPECT_EQ(read_state(directory_ / "latest").step, 6);
  const RunHistory history = read_history(directory_.path());
  ASSERT_EQ(history.evaluations.size(), 3u);
  EXPECT_EQ(history.best()->step, 4);
  EXPECT_EQ(history.evaluations[0].acceptance_tree, 2.5);
  EXPECT_EQ(history.evaluations[1].acceptance_tree, 1.5);
  EXPECT_THAT(read_file(directory_ / "metrics.jsonl"),
              ::testing::HasSubstr("\"acceptance_tree\":"));
}

TEST_F(TrainerTest, DomainsAreEvaluatedAsIfEachWereAlone) {
  const TrainBatch code = make_batch(7), prose = make_batch(8);
  TrainBatch mixed = join(code, prose);
  mixed.domains = {"code", "prose"};
  ListSource source({make_batch(1)}), together({mixed, mixed}), alone({code, code});
  const Evaluation all = trainer(source, &together)->evaluate();
  const Evaluation one = trainer(source, &alone)->evaluate();
  ASSERT_EQ(all.domains.size(), 2u);
  EXPECT_EQ(all.domains[0].name, "code");
  EXPECT_EQ(all.domains[0].metrics.pairs(), one.metrics.pairs());
  EXPECT_NEAR(all.domains[0].metrics.loss(), one.metrics.loss(), 1e-5);
  EXPECT_NEAR(all.domains[0].metrics.simulated_acceptance(), one.metrics.simulated_acceptance(),
              1e-9);
  EXPECT_EQ(all.domains[0].metrics.pairs() + all.domains[1].metrics.pairs(), all.metrics.pairs());
  EXPECT_TRUE(one.domains.empty());
}

TEST(Evaluation, AcceptanceOfADomainIsThatOfItsPrompts) {
  Acceptance all{1.5, {0.5}, {{10, 5}, {9, 9}, {6, 3}, {0, 0}}};
  const std::vector<std::string> domains{"code", "prose", "code", "empty"};
  EXPECT_DOUBLE_EQ(acceptance_of_domain(all, domains, "code")->length, 2.0);
  EXPECT_DOUBLE_EQ(acceptance_of_domain(all, domains, "prose")->length, 1.0);
  EXPECT_FALSE(acceptance_of_domain(all, domains, "empty"));
}

TEST_F(TrainerTest, EndsOnceNothingBetterComesAndStaysEnded) {
  std::vector<TrainBatch> batches;
  for (int64_t i = 0; i < 9; ++i) batches.push_back(make_batch(i));
  ListSource source(batches), heldout({make_batch(9)});
  config_.eval.every = 1;
  config_.eval.patience = 2;
  const double measured[] = {1.5, 1.4, 1.9, 1.9, 1.7, 9};  // as good as the best is not better
  int calls = 0;
  measure_ = [&](const TargetModel&, const DraftConfig&, const DraftParams&, const VocabMap&,
                 const std::vector<MediaTokens>&) {
    return Acceptance{measured[calls++], {0.5}};
  };
  const auto first = trainer(source, &heldout);
  EXPECT_TRUE(first->run());
  EXPECT_EQ(first->state().step, 5);
  EXPECT_EQ(read_state(directory_ / "best").step, 3);
  EXPECT_EQ(read_state(directory_ / "latest").best.waited, 2);
  const auto again = trainer(source, &heldout);
  again->begin(directory_ / "latest");
  EXPECT_TRUE(again->run());
  EXPECT_EQ(calls, 5);
}

TEST_F(TrainerTest, BestBeginsAnewWhereSomethingElseIsMeasured) {
  ListSource source({make_batch(1), make_batch(2), make_batch(3)}), heldout({make_batch(9)});
  config_.eval.every = 1;
  config_.train.max_steps = 2;
  const auto first = trainer(source, &heldout);
  EXPECT_TRUE(first->run());
  EXPECT_EQ(read_state(directory_ / "latest").best.metric, "tau_sim");
  measure_ = [](const TargetModel&, const DraftConfig&, const DraftParams&, const VocabMap&,
                const std::vector<MediaTokens>&) {
    return Acceptance{1.01, {0.01}};  // less than tau_sim, and no worse for it
  };
  config_.train.max_steps = 3;
  const auto again = trainer(source, &heldout);
  again->begin(directory_ / "latest");
  EXPECT_TRUE(again->run());
  EXPECT_EQ(again->state().best.step, 3);
  EXPECT_EQ(again->state().best.metric, "acceptance");
  EXPECT_EQ(again->state().best.waited, 0);
  EXPECT_EQ(read_history(directory_.path()).best()->step, 3);
}

TEST_F(TrainerTest, EvaluationChangesNothing) {
  ListSource source({make_batch(1), make_batch(2)}), heldout({make_batch(9), make_batch(8)});
  const auto trainer = this->trainer(source, &heldout);
  UnrollMetrics metrics(3);
  trainer->step(metrics);
  const Tensor before = trainer->params().at("lm_head.weight").detach().clone();
  const Evaluation first = trainer->evaluate(), second = trainer->evaluate();
  EXPECT_EQ(first.metrics.loss(), second.metrics.loss());
  EXPECT_EQ(first.metrics.tokens(), 2 * kRows);
  EXPECT_TRUE(before.equal(trainer->params().at("lm_head.weight")));
  EXPECT_EQ(trainer->params().at("lm_head.weight").grad().abs().max().item<float>(), 0.0f);
}

TEST_F(TrainerTest, ARunKnowsWhereItsTimeWent) {
  ListSource source(std::vector<TrainBatch>(4, make_batch(1))), heldout({make_batch(9)});
  config_.eval.every = 2;
  config_.train.checkpoint_every = 3;
  const auto trainer = this->trainer(source, &heldout);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(trainer->run());
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
  const RunTimes& times = trainer->times();
  EXPECT_EQ(times.evaluations, 2) << "at step 2 and at the end";
  EXPECT_GE(times.checkpoints, 3) << "the first evaluation's, step 3, the end";
  for (const double part : {times.training, times.heldout, times.saving, times.records}) {
    EXPECT_GT(part, 0);
  }
  double sum = 0;
  for (const TimePart& part : time_parts("online", times)) sum += part.seconds;
  EXPECT_LE(sum, whole.count());
  EXPECT_GT(sum, 0.8 * whole.count());
}

TEST_F(TrainerTest, MetricsHaveALineAStep) {
  ListSource source(std::vector<TrainBatch>(3, make_batch(1)));
  trainer(source)->run();
  std::ifstream file(directory_ / "metrics.jsonl");
  int64_t step = 0;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json.at("kind"), "train");
    EXPECT_EQ(json.at("step"), ++step);
    EXPECT_EQ(json.at("loss_k").size(), 3u);
    EXPECT_EQ(json.at("acc_k").size(), 3u);
    EXPECT_EQ(json.at("alpha_k").size(), 3u);
    for (const char* key :
         {"epoch", "tokens", "supervised_tokens", "loss", "tau_sim", "out_of_vocab", "lr",
          "grad_norm", "tokens_per_second", "peak_memory_bytes"}) {
      EXPECT_TRUE(json.contains(key)) << key;
    }
  }
  EXPECT_EQ(step, 3);
}

}  // namespace
}  // namespace aerie
