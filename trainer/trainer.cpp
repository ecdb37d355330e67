#include "trainer/trainer.h"

#include <fmt/ranges.h>

#include <cmath>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "trainer/batch_draws.h"
#include "trainer/report.h"
#include "trainer/schedule.h"
#include "trainer/stop_signal.h"
#include "trainer/stopwatch.h"

namespace aerie {
namespace {

// So many steps in a row without a finite gradient stop the run: skipping on would train nothing.
constexpr int64_t kMaxBadSteps = 5;

int64_t count_steps(const RunConfig& config, const HiddenStateSource& train) {
  if (config.train.max_steps > 0) return config.train.max_steps;
  return (train.total_batches() + config.train.accumulate - 1) / config.train.accumulate;
}

bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

}  // namespace

void TimeSplit::add(const TimeSplit& other) {
  source += other.source;
  forward += other.forward;
  backward += other.backward;
  update += other.update;
}

Trainer::Trainer(TrainerParts parts, DraftParams params)
    : parts_(std::move(parts)),
      params_(std::move(params)),
      optimizer_(params_, parts_.config.optim),
      draft_(Eagle3Draft::trainable(parts_.draft, params_, parts_.target.embed_weight(),
                                    parts_.dtype)),
      objective_(objective_of(parts_.config.train)),
      total_steps_(count_steps(parts_.config, parts_.train)) {
  state_.seed = parts_.config.train.seed;
  state_.facts = parts_.facts;
  state_.cursor = parts_.train.cursor();
}

void Trainer::resume(const std::filesystem::path& checkpoint) {
  TrainState state = read_state(checkpoint);
  check_same_run(checkpoint, state.facts, parts_.facts);
  restore_optimizer(checkpoint, state, optimizer_);
  draft_.refresh();
  parts_.train.seek(state.cursor);
  saved_step_ = state.step;
  state_ = std::move(state);
}

int64_t Trainer::accumulate(TrainBatch batch, UnrollMetrics& metrics, TimeSplit& seconds) {
  Stopwatch watch;
  const TrainSection& train = parts_.config.train;
  DepthSampling sampling{train.depth_keep};
  if (train.depth_keep < 1 || train.feature_noise > 0) {
    sampling.keys = document_keys(batch, train.seed);
  }
  if (train.feature_noise > 0) add_feature_noise(batch, train.feature_noise, sampling.keys);
  const UnrollPlan plan = plan_unroll(batch.tokens, batch.positions, batch.loss_mask, batch.q_start,
                                      train.unroll, sampling);
  metrics.add_tokens(batch.tokens.numel(), batch.loss_mask.sum().item<int64_t>());
  if (plan.pairs == 0) return 0;
  const ops::HeadLoss loss = ttt_loss(draft_, batch, plan, teacher(), objective_);
  metrics.add(plan, loss);
  seconds.forward += watch.lap();
  loss.total.backward();
  seconds.backward += watch.lap();
  return plan.valid_pairs;
}

StepReport Trainer::step(UnrollMetrics& metrics) {
  StepReport report;
  UnrollMetrics fresh(parts_.config.train.unroll);
  std::vector<std::string> documents;
  int64_t pairs = 0;
  // A batch without a trainable pair does not make a step.
  for (int64_t i = 0; i < parts_.config.train.accumulate || pairs == 0; ++i) {
    Stopwatch watch;
    const std::optional<TrainBatch> batch = parts_.train.next();
    report.seconds.source += watch.lap();
    if (!batch) break;
    documents.insert(documents.end(), batch->documents.begin(), batch->documents.end());
    report.epoch = batch->epoch;
    pairs += accumulate(*batch, fresh, report.seconds);
  }
  if (pairs == 0) return report;

  Stopwatch watch;
  report.trained = true;
  report.lr = learning_rate(parts_.config.optim, state_.step, total_steps_);
  const Optimizer::Report update = optimizer_.step(report.lr, 1.0 / static_cast<double>(pairs));
  report.applied = update.applied;
  report.grad_norm = update.grad_norm;
  ++state_.step;
  state_.tokens += fresh.tokens();
  state_.supervised += fresh.supervised();
  if (report.applied) {
    draft_.refresh();
    bad_in_a_row_ = 0;
    metrics.add(fresh);
  } else {
    count_skipped(documents);
  }
  state_.updates = optimizer_.updates();
  state_.cursor = parts_.train.cursor();
  report.seconds.update = watch.lap();
  state_.seconds += report.seconds.total();
  return report;
}

void Trainer::count_skipped(const std::vector<std::string>& documents) {
  ++state_.skipped_steps;
  ++bad_in_a_row_;
  const std::string ids = fmt::format("{}", fmt::join(documents, ", "));
  AERIE_CHECK(bad_in_a_row_ < kMaxBadSteps,
              "{} steps in a row had a gradient that is not finite; the last one read the rows {}. "
              "(numbers in the prepared data). Look at these, lower optim.lr, or resume from an "
              "earlier checkpoint",
              bad_in_a_row_, ids);
  log_warning(
      fmt::format("step {}: the gradient is not finite, skipped; documents {}", state_.step, ids));
}

DraftParams Trainer::result() const {
  return optimizer_.averages() ? optimizer_.average() : params_;
}

Evaluation Trainer::evaluate() {
  Stopwatch watch;
  const at::NoGradGuard no_grad;
  const DraftParams weights = result();
  std::optional<Eagle3Draft> averaged;
  if (optimizer_.averages()) {
    averaged.emplace(parts_.draft, weights, parts_.target.embed_weight(), parts_.dtype);
  }
  Evaluation evaluation{
      evaluate_loss(averaged ? *averaged : draft_, *parts_.heldout, teacher(), objective_), {}, 0};
  if (parts_.measure && !parts_.prompts.empty()) {
    evaluation.acceptance =
        parts_.measure(parts_.target, parts_.draft, weights, parts_.vocab, parts_.prompts);
  }
  evaluation.seconds = watch.lap();
  return evaluation;
}

void Trainer::evaluate_and_log(MetricsFile& file) {
  last_evaluation_ = evaluate();
  file.write(eval_line(state_, *last_evaluation_));
  log_info(
      fmt::format("step {}, held-out documents: {}", state_.step, describe(*last_evaluation_)));
  const double value = last_evaluation_->value();
  if (state_.best.step < 0 || value > state_.best.value) {
    state_.best = {state_.step, value, last_evaluation_->metric()};
  }
}

void Trainer::save(MetricsFile& file) {
  state_.metrics_position = file.position();
  const fs::path& run = parts_.config.output.dir;
  save_checkpoint(
      run, {state_, parts_.draft, params_, parts_.vocab, optimizer_, to_yaml(parts_.config)});
  if (state_.best.step == state_.step) mark_best(run, state_.step);
  prune_checkpoints(run, parts_.config.train.keep_checkpoints);
  saved_step_ = state_.step;
}

void Trainer::finish_step(MetricsFile& file, bool ended) {
  const bool evaluated = parts_.heldout && (ended || due(state_.step, parts_.config.eval.every));
  if (evaluated) evaluate_and_log(file);
  const bool best = evaluated && state_.best.step == state_.step;
  if (ended || best || due(state_.step, parts_.config.train.checkpoint_every)) save(file);
}

bool Trainer::run() {
  const StopSignal stop;
  const int64_t log_every = parts_.config.train.log_every;
  MetricsFile file(parts_.config.output.dir / "metrics.jsonl", state_.metrics_position);
  Progress progress("training", total_steps_, "steps");
  UnrollMetrics metrics(parts_.config.train.unroll);
  TimeSplit seconds;  // since the last line
  bool ended = state_.step >= total_steps_;
  while (!ended && !stop.requested()) {
    StepReport report = step(metrics);
    seconds.add(report.seconds);
    report.seconds = seconds;
    ended = !report.trained || state_.step >= total_steps_;
    progress.update(state_.step, progress_note(metrics, report));
    if (metrics.pairs() > 0 && (ended || due(state_.step, log_every))) {
      file.write(train_line(state_, metrics, report));
      metrics = UnrollMetrics(parts_.config.train.unroll);
      seconds = {};
    }
    finish_step(file, ended);
  }
  progress.finish();
  if (saved_step_ != state_.step) save(file);
  return ended;
}

}  // namespace aerie
