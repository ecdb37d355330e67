#include "trainer/trainer.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "trainer/batch_draws.h"
#include "trainer/run_data.h"
#include "trainer/run_facts.h"
#include "trainer/run_ranks.h"
#include "trainer/schedule.h"
#include "trainer/stopwatch.h"

namespace aerie {
namespace {

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
    // Computed again, every depth adds to a gradient by itself, and no word comes of the last: then
    // the sums wait for the whole backward pass.
    if (i + 1 == share_.own() && !objective_.recompute) gradients_.arm();
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
  std::optional<int64_t> first_epoch;
  for (bool more = true; more && fresh.pairs() == 0 && !report.stop;) {
    Contribution taken = take_packs(report);
    sum_over_ranks(taken, report);
    fresh.add(taken.metrics);
    documents.insert(documents.end(), taken.documents.begin(), taken.documents.end());
    more = taken.batches == share_.packs;
    if (!first_epoch) first_epoch = report.epoch;
    if (fresh.pairs() == 0 && report.epoch > *first_epoch + 1) refuse_untrainable(parts_.config);
  }
  if (fresh.pairs() == 0) {
    if (state_.step == 0 && !report.stop) refuse_untrainable(parts_.config);
    return report;
  }

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
    metrics.add(fresh);
  } else {
    count_skipped(documents, update.bad_in_a_row);
  }
  state_.updates = optimizer_.updates();
  state_.cursor = parts_.train.cursor();
  report.seconds.update = watch.lap();
  state_.seconds += report.seconds.total();
  return report;
}

void Trainer::count_skipped(const std::vector<std::string>& documents, int64_t in_a_row) {
  ++state_.skipped_steps;
  const std::string ids = fmt::format(
      "{}", fmt::join(ranks_.gather(fmt::format("{}", fmt::join(documents, ", "))), ", "));
  AERIE_CHECK(in_a_row < Optimizer::kMostBadSteps,
              "{} steps in a row had a gradient that is not finite; the last one read {}: "
              "look at these rows, lower optim.lr, or resume from an earlier checkpoint",
              in_a_row, ids);
  if (!ranks_.first()) return;
  log_warning(
      fmt::format("step {}: the gradient is not finite, skipped; documents {}", state_.step, ids));
}

}  // namespace aerie
