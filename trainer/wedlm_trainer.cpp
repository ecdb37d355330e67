#include "trainer/wedlm_trainer.h"

#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/log.h"
#include "common/progress.h"
#include "trainer/batch_draws.h"
#include "trainer/metrics.h"
#include "trainer/run_data.h"
#include "trainer/run_facts.h"
#include "trainer/run_sources.h"
#include "trainer/schedule.h"
#include "trainer/stop_signal.h"
#include "trainer/stopwatch.h"

namespace aerie {
namespace {

using nlohmann::ordered_json;

int64_t planned_steps(const RunConfig& config, const PackSequence& packs) {
  if (config.train.max_steps > 0) return config.train.max_steps;
  return (packs.total() + config.train.accumulate - 1) / config.train.accumulate;
}

double accuracy(int64_t hits, int64_t all) {
  return all > 0 ? static_cast<double>(hits) / static_cast<double>(all) : 0;
}

void add_losses(ordered_json& line, const DualStreamLoss& found) {
  line["loss"] = found.loss();
  line["masked_loss"] = found.masks > 0 ? found.masked / static_cast<double>(found.masks) : 0;
  line["next_loss"] = found.nexts > 0 ? found.next / static_cast<double>(found.nexts) : 0;
  line["masked_accuracy"] = accuracy(found.masked_hits, found.masks);
  line["next_accuracy"] = accuracy(found.next_hits, found.nexts);
  line["rows"] = found.rows;
}

}  // namespace

WedlmTrainer::WedlmTrainer(Parts parts)
    : parts_(std::move(parts)),
      params_{read_trainable(parts_.config.target.path)},
      optimizer_(params_, parts_.config.optim),
      target_(
          parts_.config.target.path, [this](const std::string& name) { return params_.at(name); },
          parts_.dtype),
      packs_(parts_.train, pack_options(parts_.config, Split::kTrain),
             parts_.config.train.max_steps > 0 ? 0 : parts_.config.train.epochs),
      total_steps_(planned_steps(parts_.config, packs_)) {
  state_.seed = parts_.config.train.seed;
  state_.packs_per_step = parts_.config.train.accumulate;
  state_.facts = parts_.facts;
  state_.cursor = packs_.cursor();
}

void WedlmTrainer::resume(const std::filesystem::path& checkpoint,
                          const std::vector<std::string>& overrides) {
  state_ = read_state(checkpoint);
  check_same_run(checkpoint, state_.facts, parts_.facts, overrides);
  state_.facts = parts_.facts;
  optimizer_.restore(read_masters(checkpoint), read_moments(checkpoint), state_.updates,
                     read_result(checkpoint));
  target_.refresh();
  packs_.seek(state_.cursor);
  saved_step_ = state_.step;
}

DualStream WedlmTrainer::plan(const PackSequence& packs, const Pack& pack) const {
  const PackedTokens packed = packs.gather(pack);
  const std::vector<uint64_t> keys =
      document_keys(packs.names(pack), pack.epoch, parts_.config.train.seed);
  return plan_dual_stream(packed.tokens, packed.loss_mask, packed.q_start, keys,
                          {parts_.config.train.block, parts_.config.train.ar_weight});
}

bool WedlmTrainer::step(DualStreamLoss& found) {
  DualStreamLoss fresh;
  std::optional<int64_t> first_epoch;
  for (int64_t i = 0; i < parts_.config.train.accumulate || fresh.batches == 0; ++i) {
    const std::optional<Pack> pack = packs_.next();
    if (!pack) break;
    epoch_ = pack->epoch;
    if (!first_epoch) first_epoch = epoch_;
    if (fresh.batches == 0 && epoch_ > *first_epoch + 1) refuse_untrainable(parts_.config);
    const DualStream rows = plan(packs_, *pack);
    if (rows.labels.numel() == 0) continue;  // nothing of it is the assistant's
    DualStreamLoss loss = dual_stream_loss(target_, rows);
    loss.total.backward();
    fresh.add(loss);
    state_.tokens += rows.clean;
    state_.supervised += rows.next;
  }
  if (fresh.batches == 0) {
    if (state_.step == 0) refuse_untrainable(parts_.config);
    return false;
  }
  lr_ = learning_rate(parts_.config.optim, state_.step, total_steps_);
  const Optimizer::Report update = optimizer_.step(lr_, 1.0 / static_cast<double>(fresh.batches));
  grad_norm_ = update.grad_norm;
  ++state_.step;
  state_.updates = optimizer_.updates();
  state_.cursor = packs_.cursor();
  state_.skipped_steps += update.applied ? 0 : 1;
  AERIE_CHECK(update.bad_in_a_row < Optimizer::kMostBadSteps,
              "{} steps in a row had a gradient that is not finite: lower optim.lr, or resume from "
              "an earlier checkpoint",
              update.bad_in_a_row);
  if (update.applied) target_.refresh();
  found.add(fresh);
  return true;
}

DualStreamLoss WedlmTrainer::evaluate() {
  const at::NoGradGuard no_grad;
  PackSequence packs(*parts_.heldout, pack_options(parts_.config, Split::kHeldout), 1);
  DualStreamLoss found;
  while (const std::optional<Pack> pack = packs.next()) {
    const DualStream rows = plan(packs, *pack);
    if (rows.labels.numel() > 0) found.add(dual_stream_loss(target_, rows));
  }
  return found;
}

void WedlmTrainer::save(const RunLog& log) {
  state_.metrics_position = log.position();
  const std::filesystem::path& run = parts_.config.output.dir;
  const Moments moments = optimizer_.moments();
  save_checkpoint(run,
                  {state_, params_, moments, to_yaml(parts_.config),
                   optimizer_.averages() ? optimizer_.average() : DraftParams()},
                  [this](const std::filesystem::path& directory) {
                    write_trained(parts_.config.target.path, directory / "target",
                                  optimizer_.result().tensors);
                  });
  prune_checkpoints(run, parts_.config.train.keep_checkpoints);
  saved_step_ = state_.step;
}

void WedlmTrainer::log_step(RunLog& log, const DualStreamLoss& found, double seconds) const {
  ordered_json line{{"kind", "train"},
                    {"step", state_.step},
                    {"epoch", epoch_},
                    {"tokens", state_.tokens},
                    {"supervised_tokens", state_.supervised},
                    {"seconds", state_.seconds},
                    {"lr", lr_},
                    {"grad_norm", grad_norm_}};
  add_losses(line, found);
  line["rows_per_second"] = static_cast<double>(found.rows) / std::max(seconds, 1e-9);
  line["skipped_steps"] = state_.skipped_steps;
  line["peak_memory_bytes"] = peak_resident_bytes();
  log.write(line);
}

void WedlmTrainer::log_evaluation(RunLog& log) {
  const DualStreamLoss found = evaluate();
  ordered_json line{{"kind", "eval"}, {"step", state_.step}, {"tokens", state_.tokens}};
  add_losses(line, found);
  log.write(line);
  log_info(
      fmt::format("step {}, held-out documents: masks right {:.3f}, next tokens right {:.3f}, "
                  "loss {:.3f}",
                  state_.step, accuracy(found.masked_hits, found.masks),
                  accuracy(found.next_hits, found.nexts), found.loss()));
}

bool WedlmTrainer::run() {
  const StopSignal stop;
  const TrainSection& train = parts_.config.train;
  RunLog log(parts_.config.output.dir, state_.step, state_.metrics_position);
  Progress progress("training", total_steps_, "steps");
  DualStreamLoss found;
  double seconds = 0;  // since the last line
  bool ended = state_.step >= total_steps_;
  while (!ended && !stop.requested()) {
    Stopwatch watch;
    const bool trained = step(found);
    const double lap = watch.lap();
    seconds += lap;
    state_.seconds += lap;
    ended = !trained || state_.step >= total_steps_;
    progress.update(state_.step, fmt::format("loss {:.3f}", found.loss()));
    if (found.batches > 0 && (ended || is_due(state_.step, train.log_every))) {
      log_step(log, found, seconds);
      found = {};
      seconds = 0;
    }
    if (parts_.heldout && (ended || is_due(state_.step, parts_.config.eval.every))) {
      log_evaluation(log);
    }
    if (ended || is_due(state_.step, train.checkpoint_every)) save(log);
  }
  progress.finish();
  if (saved_step_ != state_.step) save(log);
  return ended;
}

}  // namespace aerie
