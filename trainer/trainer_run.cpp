// A run of the trainer: its steps, and what happens between them.
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "trainer/report.h"
#include "trainer/schedule.h"
#include "trainer/stopwatch.h"
#include "trainer/trainer.h"

namespace aerie {

void Trainer::measure_acceptance(const DraftParams& weights, Evaluation& evaluation) const {
  if (!parts_.measure || parts_.prompts.empty()) return;
  evaluation.acceptance =
      parts_.measure(parts_.target, parts_.draft, weights, parts_.vocab, parts_.prompts);
  for (DomainEvaluation& domain : evaluation.domains) {
    domain.acceptance =
        acceptance_of_domain(*evaluation.acceptance, parts_.prompt_domains, domain.name);
  }
}

Evaluation Trainer::evaluate(bool decodes) {
  Stopwatch watch;
  const at::NoGradGuard no_grad;
  const DraftParams weights = optimizer_.result();
  std::optional<Eagle3Draft> averaged;
  if (optimizer_.averages()) {
    averaged.emplace(parts_.draft, weights, parts_.target.embed_weight(), parts_.dtype);
  }
  Evaluation evaluation =
      evaluate_loss(averaged ? *averaged : draft_, *parts_.heldout, teacher(), objective_);
  evaluation.seconds = watch.lap();
  if (decodes) measure_acceptance(weights, evaluation);
  if (evaluation.acceptance) evaluation.decoding_seconds = watch.lap();
  evaluation.seconds += evaluation.decoding_seconds;
  return evaluation;
}

void Trainer::evaluate_and_log(RunLog& log) {
  last_evaluation_ = evaluate();
  ++times_.evaluations;
  times_.decoding += last_evaluation_->decoding_seconds;
  times_.heldout += last_evaluation_->seconds - last_evaluation_->decoding_seconds;
  log.write(eval_line(state_, *last_evaluation_));
  log_info(
      fmt::format("step {}, held-out documents: {}", state_.step, describe(*last_evaluation_)));
  const double value = last_evaluation_->value();
  const std::string metric = last_evaluation_->metric();
  // A resumed run may measure something else, which cannot be compared.
  const bool first = state_.best.step < 0 || state_.best.metric != metric;
  if (first || value > state_.best.value) {
    if (first && state_.best.step >= 0) {
      log_info(fmt::format("best is chosen by {} from here on, no longer by {}", metric,
                           state_.best.metric));
    }
    state_.best = {state_.step, value, metric};
  } else {
    ++state_.best.waited;
  }
}

void Trainer::write_checkpoint(const fs::path& run, const Moments& moments) const {
  save_checkpoint(run,
                  {state_, parts_.draft, params_, parts_.vocab, moments, to_yaml(parts_.config),
                   optimizer_.averages() ? optimizer_.average() : DraftParams()});
}

double Trainer::time_checkpoint(const fs::path& directory) const {
  Stopwatch watch;
  const Moments moments = optimizer_.moments();
  if (ranks_.first()) write_checkpoint(directory, moments);
  return watch.lap();
}

void Trainer::save(const RunLog* log) {
  Stopwatch watch;
  const Moments moments = optimizer_.moments();
  if (ranks_.first()) {
    state_.metrics_position = log->position();
    const fs::path& run = parts_.config.output.dir;
    write_checkpoint(run, moments);
    if (state_.best.step == state_.step) mark_best(run, state_.step);
    prune_checkpoints(run, parts_.config.train.keep_checkpoints);
  }
  // A slow disk may take longer than the others would wait for a gradient.
  ranks_.share("saved");
  saved_step_ = state_.step;
  ++times_.checkpoints;
  times_.saving += watch.lap();
}

bool Trainer::out_of_patience() const {
  const int64_t patience = parts_.config.eval.patience;
  return patience > 0 && state_.best.waited >= patience;
}

bool Trainer::finish_step(RunLog* log, bool ended) {
  const bool evaluated = parts_.heldout && (ended || is_due(state_.step, parts_.config.eval.every));
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
  if (ended || verdict == "best" || is_due(state_.step, parts_.config.train.checkpoint_every)) {
    save(log);
  }
  return ended;
}

void Trainer::count_time(const StepReport& report) {
  (report.epoch == 0 ? times_.first_pass : times_.later_passes) += report.seconds.source;
  times_.training += report.seconds.total() - report.seconds.source;
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
    count_time(report);
    Stopwatch watch;
    seconds.add(report.seconds);
    report.seconds = seconds;
    ended = (!report.trained && !report.stop) || state_.step >= total_steps_;
    stopped = report.stop || (ranks_.alone() && stop.requested());
    if (progress) progress->update(state_.step, progress_note(metrics, report));
    if (metrics.pairs() > 0 && (ended || is_due(state_.step, log_every))) {
      if (log) log->write(train_line(state_, metrics, report));
      metrics = UnrollMetrics(parts_.config.train.unroll);
      seconds = {};
    }
    times_.records += watch.lap();
    ended = finish_step(log ? &*log : nullptr, ended);
  }
  if (progress) progress->finish();
  if (saved_step_ != state_.step) save(log ? &*log : nullptr);
  stop_ = nullptr;
  return ended;
}

}  // namespace aerie
