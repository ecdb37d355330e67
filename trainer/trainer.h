// The training loop: source -> loss -> backward -> AdamW, with evaluation, checkpoints and resume.
#pragma once
#include <memory>

#include "trainer/checkpoint.h"
#include "trainer/commands.h"
#include "trainer/evaluation.h"
#include "trainer/gradient_sum.h"
#include "trainer/hidden_states.h"
#include "trainer/metrics.h"
#include "trainer/optimizer.h"
#include "trainer/run_log.h"
#include "trainer/run_times.h"
#include "trainer/step_share.h"
#include "trainer/stop_signal.h"

namespace aerie {

/// What a run consists of. References outlive the trainer.
struct TrainerParts {
  const RunConfig& config;
  const TargetModel& target;
  DraftConfig draft;
  VocabMap vocab;
  HiddenStateSource& train;
  HiddenStateSource* heldout = nullptr;  ///< none: no evaluation
  std::vector<MediaTokens> prompts;      ///< held-out prompts to decode; none: not measured
  MeasureAcceptance measure;
  RunFacts facts;  ///< what a resumed run must agree on
  at::ScalarType dtype = at::kBFloat16;
  Ranks* ranks = nullptr;      ///< none: this process is alone
  int64_t packs_per_step = 0;  ///< of all ranks together; 0: train.accumulate on each
  std::vector<std::string> prompt_domains = {};  ///< of each prompt; empty: the data name none
};

/// Where the seconds of steps went.
struct TimeSplit {
  double source = 0;  ///< getting batches: the target's forward when online
  double forward = 0, backward = 0;
  double wait = 0;    ///< for the other ranks
  double update = 0;  ///< optimizer, and packing the new weights
  double total() const { return source + forward + backward + wait + update; }
  void add(const TimeSplit& other);
};

/// What one optimizer step did.
struct StepReport {
  bool trained = false;  ///< false: the source is at its end
  bool applied = false;  ///< false: not finite, skipped
  bool stop = false;     ///< a rank was asked to stop
  double lr = 0, grad_norm = 0;
  TimeSplit seconds;
  int64_t epoch = 0;
};

/// On several ranks every one has a Trainer over its share of the batches, and calls the same
/// methods in the same order. The weights stay the same bits on all; rank 0 alone evaluates, logs
/// and writes.
class Trainer {
 public:
  /// `params` are the initial weights.
  Trainer(TrainerParts parts, DraftParams params);
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Before the first step: all ranks take rank 0's weights, and where rank 0 names a checkpoint of
  /// this run, everything in it. Throws Error with the differing fields if it is another run's,
  /// except those of `overrides` (trainer/run_facts.h), or if the ranks differ from each other.
  void begin(const std::optional<std::filesystem::path>& checkpoint,
             const std::vector<std::string>& overrides = {});
  /// Trains to the end, or until a signal asks to stop; writes checkpoints and metrics.jsonl.
  /// -> whether the run is complete
  bool run();

  /// One optimizer step over train.accumulate batches; their metrics are added to `metrics`.
  StepReport step(UnrollMetrics& metrics);
  /// `decodes`: also the held-out prompts, where there are any.
  Evaluation evaluate(bool decodes = true);
  /// Seconds that a checkpoint into `directory` takes; for that alone.
  double time_checkpoint(const std::filesystem::path& directory) const;

  int64_t total_steps() const { return total_steps_; }
  const TrainState& state() const { return state_; }
  const DraftParams& params() const { return params_; }
  const Optimizer& optimizer() const { return optimizer_; }
  const std::optional<Evaluation>& last_evaluation() const { return last_evaluation_; }
  /// What run() took in this process; start and report are not its own.
  const RunTimes& times() const { return times_; }

 private:
  /// What this rank contributes to a step, until it is summed what all do.
  struct Contribution {
    UnrollMetrics metrics;
    int64_t batches = 0;
    std::vector<std::string> documents;
  };
  /// `reordered`: its place in the data means nothing any more.
  void take_state(TrainState state, bool reordered);
  /// Forward and backward of this rank's packs of a step, and the sum of all ranks' gradients.
  Contribution take_packs(StepReport& report);
  /// Forward and backward of one batch. Gradients add up.
  void accumulate(TrainBatch batch, UnrollMetrics& metrics, TimeSplit& seconds);
  /// Metrics and batches of all ranks; whether one is to stop.
  void sum_over_ranks(Contribution& contribution, StepReport& report);
  void count_skipped(const std::vector<std::string>& documents, int64_t in_a_row);
  /// Evaluates and saves where the step is due for it, or the last. `log`: rank 0's. -> whether it
  /// is the last
  bool finish_step(RunLog* log, bool ended);
  void evaluate_and_log(RunLog& log);
  void save(const RunLog* log);
  void write_checkpoint(const std::filesystem::path& run, const Moments& moments) const;
  void count_time(const StepReport& report);
  /// eval.patience evaluations have brought nothing better.
  bool out_of_patience() const;
  void measure_acceptance(const DraftParams& weights, Evaluation& evaluation) const;
  TeacherHead teacher() const { return {&parts_.target.head(), &parts_.vocab}; }

  TrainerParts parts_;
  Ranks alone_;
  Ranks& ranks_;
  StepShare share_;
  DraftParams params_;
  Optimizer optimizer_;
  GradientSum gradients_;
  Eagle3Draft draft_;
  Objective objective_;
  int64_t total_steps_;
  TrainState state_;
  RunTimes times_;
  const StopSignal* stop_ = nullptr;  // while run() runs
  int64_t saved_step_ = -1;           // of the checkpoint that `latest` points at
  std::optional<Evaluation> last_evaluation_;
};

}  // namespace aerie
