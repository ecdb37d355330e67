#include "trainer/trainer.h"

#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "trainer/batch_draws.h"
#include "trainer/report.h"
#include "trainer/run_facts.h"
#include "trainer/run_ranks.h"
#include "trainer/schedule.h"
#include "trainer/stopwatch.h"

namespace aerie {
namespace {

// So many steps in a row without a finite gradient stop the run: skipping on would train nothing.
constexpr int64_t kMaxBadSteps = 5;

StepShare share_of(const TrainerParts& parts, const Ranks& ranks) {
  const int64_t packs = parts.packs_per_step;
  return {ranks.rank(), ranks.size(),
          packs > 0 ? packs : ranks.size() * parts.config.train.accumulate};
}

int64_t count_steps(const RunConfig& config, const HiddenStateSource& train,
                    const StepShare& share) {
  if (config.train.max_steps > 0) return config.train.max_steps;
  return share.steps(train.total_batches());
}

/// Without these the place in the data means nothing.
bool decides_order(const std::string& field) {
  return field == "data.train" || field == "train.pack_tokens" || field == "train.seed";
}

bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

}  // namespace

void TimeSplit::add(const TimeSplit& other) {
  source += other.source;
  forward += other.forward;
  backward += other.backward;
  wait += other.wait;
  update += other.update;
}

Trainer::Trainer(TrainerParts parts, DraftParams params)
    : parts_(std::move(parts)),
      ranks_(parts_.ranks ? *parts_.ranks : alone_),
      share_(share_of(parts_, ranks_)),
      params_(std::move(params)),
      optimizer_(params_, parts_.config.optim, ranks_, parts_.config.train.zero == 1),
      gradients_(params_, optimizer_.gradient(), ranks_),
      draft_(Eagle3Draft::trainable(parts_.draft, params_, parts_.target.embed_weight(),
                                    parts_.dtype)),
      objective_(objective_of(parts_.config.train)),
      total_steps_(count_steps(parts_.config, parts_.train, share_)) {
  // A gradient is complete only once every depth has been computed again, and buckets go off as
  // soon as the first has.
  AERIE_CHECK(ranks_.alone() || !parts_.config.train.recompute,
              "train.recompute is for one process: leave it out where there are {} ranks",
              ranks_.size());
  state_.seed = parts_.config.train.seed;
  state_.packs_per_step = share_.packs;
  state_.facts = parts_.facts;
  state_.cursor = parts_.train.cursor();
}

void Trainer::begin(const std::optional<fs::path>& checkpoint,
                    const std::vector<std::string>& overrides) {
  check_same_on_all_ranks(ranks_, parts_.config, parts_.facts);
  std::string text;
  std::vector<std::string> overridden;
  if (ranks_.first() && checkpoint) {
    const TrainState state = read_state(*checkpoint);
    RunFacts facts = parts_.facts;
    // As many packs a step as before, on another number of ranks.
    const auto accumulate = state.facts.find("train.accumulate");
    if (state.packs_per_step == share_.packs && accumulate != state.facts.end()) {
      facts["train.accumulate"] = accumulate->second;
    }
    overridden = check_same_run(*checkpoint, state.facts, facts, overrides);
    text = state_text(state);
  }
  text = ranks_.share(text);
  if (text.empty()) {
    optimizer_.share_masters();
  } else {
    const TrainState state = parse_state(text, "what rank 0 sent");
    const bool here = ranks_.first();
    optimizer_.restore(here ? read_masters(*checkpoint) : DraftParams{},
                       here ? read_moments(*checkpoint) : Moments{}, state.updates,
                       here ? read_result(*checkpoint) : DraftParams{});
    const bool reordered = std::any_of(overridden.begin(), overridden.end(), decides_order);
    take_state(state, ranks_.share(reordered ? "reordered" : "") == "reordered");
    for (const std::string& field : overridden) {
      log_info(fmt::format("goes on with another {} (--resume-override)", field));
    }
  }
  draft_.refresh();
}

void Trainer::take_state(TrainState state, bool reordered) {
  const std::string start = state_.cursor;
  if (parts_.config.train.max_steps == 0 && state.packs_per_step > 0) {
    const int64_t read = state.step * state.packs_per_step;
    total_steps_ =
        state.step + share_.steps(std::max<int64_t>(0, parts_.train.total_batches() - read));
  }
  state_ = std::move(state);
  saved_step_ = state_.step;
  state_.facts = parts_.facts;
  state_.packs_per_step = share_.packs;
  if (reordered) {
    if (ranks_.first()) log_warning("the data's order has changed: they are read from their start");
    state_.cursor = start;
  }
  parts_.train.seek(state_.cursor);
}

void Trainer::accumulate(TrainBatch batch, UnrollMetrics& metrics, TimeSplit& seconds) {
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
  if (plan.pairs == 0) return;
  const ops::HeadLoss loss = ttt_loss(draft_, batch, plan, teacher(), objective_);
  metrics.add(plan, loss);
  seconds.forward += watch.lap();
  loss.total.backward();
  seconds.backward += watch.lap();
}

Trainer::Contribution Trainer::take_packs(StepReport& report) {
  Contribution mine{UnrollMetrics(parts_.config.train.unroll), 0, {}};
  Stopwatch watch;
  for (int64_t i = 0; i < share_.own(); ++i) {
    watch.lap();
    std::optional<TrainBatch> batch = parts_.train.next();
    report.seconds.source += watch.lap();
    if (!batch) break;
    ++mine.batches;
    mine.documents.insert(mine.documents.end(), batch->documents.begin(), batch->documents.end());
    report.epoch = batch->epoch;
    if (i + 1 == share_.own()) gradients_.arm();
    accumulate(std::move(*batch), mine.metrics, report.seconds);
  }
  watch.lap();
  gradients_.finish();
  report.seconds.wait += watch.lap();
  return mine;
}

void Trainer::sum_over_ranks(Contribution& contribution, StepReport& report) {
  report.stop = stop_ && stop_->requested();
  if (ranks_.alone()) return;
  Stopwatch watch;
  std::vector<double> sums = contribution.metrics.sums();
  sums.push_back(static_cast<double>(contribution.batches));
  sums.push_back(report.stop ? 1 : 0);
  ranks_.sum(at::from_blob(sums.data(), {static_cast<int64_t>(sums.size())}, at::kDouble));
  contribution.metrics.set_sums(sums);
  contribution.batches = static_cast<int64_t>(sums[sums.size() - 2]);
  report.stop = sums.back() > 0;
  report.seconds.wait += watch.lap();
}

StepReport Trainer::step(UnrollMetrics& metrics) {
  StepReport report;
  UnrollMetrics fresh(parts_.config.train.unroll);
  std::vector<std::string> documents;
  // Packs without a trainable pair do not make a step.
  for (bool more = true; more && fresh.pairs() == 0;) {
    Contribution taken = take_packs(report);
    sum_over_ranks(taken, report);
    fresh.add(taken.metrics);
    documents.insert(documents.end(), taken.documents.begin(), taken.documents.end());
    more = taken.batches == share_.packs;
  }
  if (fresh.pairs() == 0) return report;

  Stopwatch watch;
  report.trained = true;
  report.lr = learning_rate(parts_.config.optim, state_.step, total_steps_);
  const double scale = 1.0 / static_cast<double>(fresh.valid_pairs());
  const Optimizer::Report update = optimizer_.step(report.lr, scale);
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
  const std::string ids = fmt::format(
      "{}", fmt::join(ranks_.gather(fmt::format("{}", fmt::join(documents, ", "))), ", "));
  AERIE_CHECK(bad_in_a_row_ < kMaxBadSteps,
              "{} steps in a row had a gradient that is not finite; the last one read the rows {}. "
              "(numbers in the prepared data). Look at these, lower optim.lr, or resume from an "
              "earlier checkpoint",
              bad_in_a_row_, ids);
  if (!ranks_.first()) return;
  log_warning(
      fmt::format("step {}: the gradient is not finite, skipped; documents {}", state_.step, ids));
}

DraftParams Trainer::result() const {
  return optimizer_.averages() ? optimizer_.average() : params_;
}

void Trainer::measure_acceptance(const DraftParams& weights, Evaluation& evaluation) const {
  if (!parts_.measure || parts_.prompts.empty()) return;
  evaluation.acceptance =
      parts_.measure(parts_.target, parts_.draft, weights, parts_.vocab, parts_.prompts);
  for (DomainEvaluation& domain : evaluation.domains) {
    domain.acceptance =
        acceptance_of_domain(*evaluation.acceptance, parts_.prompt_domains, domain.name);
  }
}

Evaluation Trainer::evaluate() {
  Stopwatch watch;
  const at::NoGradGuard no_grad;
  const DraftParams weights = result();
  std::optional<Eagle3Draft> averaged;
  if (optimizer_.averages()) {
    averaged.emplace(parts_.draft, weights, parts_.target.embed_weight(), parts_.dtype);
  }
  Evaluation evaluation =
      evaluate_loss(averaged ? *averaged : draft_, *parts_.heldout, teacher(), objective_);
  measure_acceptance(weights, evaluation);
  evaluation.seconds = watch.lap();
  return evaluation;
}

void Trainer::evaluate_and_log(RunLog& log) {
  last_evaluation_ = evaluate();
  log.write(eval_line(state_, *last_evaluation_));
  log_info(
      fmt::format("step {}, held-out documents: {}", state_.step, describe(*last_evaluation_)));
  const double value = last_evaluation_->value();
  if (state_.best.step < 0 || value > state_.best.value) {
    state_.best = {state_.step, value, last_evaluation_->metric()};
  } else {
    ++state_.best.waited;
  }
}

void Trainer::save(const RunLog* log) {
  const Moments moments = optimizer_.moments();
  if (ranks_.first()) {
    state_.metrics_position = log->position();
    const fs::path& run = parts_.config.output.dir;
    save_checkpoint(run,
                    {state_, parts_.draft, params_, parts_.vocab, moments, to_yaml(parts_.config),
                     optimizer_.averages() ? optimizer_.average() : DraftParams()});
    if (state_.best.step == state_.step) mark_best(run, state_.step);
    prune_checkpoints(run, parts_.config.train.keep_checkpoints);
  }
  // A slow disk may take longer than the others would wait for a gradient.
  ranks_.share("saved");
  saved_step_ = state_.step;
}

bool Trainer::out_of_patience() const {
  const int64_t patience = parts_.config.eval.patience;
  return patience > 0 && state_.best.waited >= patience;
}

bool Trainer::finish_step(RunLog* log, bool ended) {
  const bool evaluated = parts_.heldout && (ended || due(state_.step, parts_.config.eval.every));
  std::string verdict;
  if (evaluated) {
    if (ranks_.first()) evaluate_and_log(*log);
    // The others have not seen what came of it.
    const char* seen = state_.best.step == state_.step ? "best" : out_of_patience() ? "enough" : "";
    verdict = ranks_.share(seen);
  }
  if (!ended && verdict == "enough") {
    if (ranks_.first()) {
      log_info(fmt::format(
          "step {}: {} evaluations without a better {} than {:.2f} of step {}: training ends here "
          "(eval.patience)",
          state_.step, state_.best.waited, state_.best.metric, state_.best.value,
          state_.best.step));
    }
    ended = true;
  }
  if (ended || verdict == "best" || due(state_.step, parts_.config.train.checkpoint_every)) {
    save(log);
  }
  return ended;
}

bool Trainer::run() {
  const StopSignal stop;
  stop_ = &stop;
  const int64_t log_every = parts_.config.train.log_every;
  std::optional<RunLog> log;
  std::optional<Progress> progress;
  if (ranks_.first()) {
    log.emplace(parts_.config.output.dir, state_.step, state_.metrics_position);
    progress.emplace("training", total_steps_, "steps");
  }
  UnrollMetrics metrics(parts_.config.train.unroll);
  TimeSplit seconds;  // since the last line
  bool ended = state_.step >= total_steps_ || out_of_patience();
  for (bool stopped = ranks_.alone() && stop.requested(); !ended && !stopped;) {
    StepReport report = step(metrics);
    seconds.add(report.seconds);
    report.seconds = seconds;
    ended = !report.trained || state_.step >= total_steps_;
    stopped = report.stop || (ranks_.alone() && stop.requested());
    if (progress) progress->update(state_.step, progress_note(metrics, report));
    if (metrics.pairs() > 0 && (ended || due(state_.step, log_every))) {
      if (log) log->write(train_line(state_, metrics, report));
      metrics = UnrollMetrics(parts_.config.train.unroll);
      seconds = {};
    }
    ended = finish_step(log ? &*log : nullptr, ended);
  }
  if (progress) progress->finish();
  if (saved_step_ != state_.step) save(log ? &*log : nullptr);
  stop_ = nullptr;
  return ended;
}

}  // namespace aerie
