// The training loop: source -> loss -> backward -> AdamW, with evaluation, checkpoints and resume.
#pragma once
#include <memory>

#include "trainer/checkpoint.h"
#include "trainer/commands.h"
#include "trainer/evaluation.h"
#include "trainer/hidden_states.h"
#include "trainer/metrics.h"
#include "trainer/optimizer.h"

namespace aerie {

/// What a run consists of. References outlive the trainer.
struct TrainerParts {
  const RunConfig& config;
  const TargetModel& target;
  DraftConfig draft;
  VocabMap vocab;
  HiddenStateSource& train;
  HiddenStateSource* heldout = nullptr;       ///< none: no evaluation
  std::vector<std::vector<int32_t>> prompts;  ///< held-out prompts to decode; none: not measured
  MeasureAcceptance measure;
  RunFacts facts;  ///< what a resumed run must agree on
  at::ScalarType dtype = at::kBFloat16;
};

/// Where the seconds of steps went.
struct TimeSplit {
  double source = 0;  ///< getting batches: the target's forward when online
  double forward = 0, backward = 0;
  double update = 0;  ///< optimizer, and packing the new weights
  double total() const { return source + forward + backward + update; }
  void add(const TimeSplit& other);
};

/// What one optimizer step did.
struct StepReport {
  bool trained = false;  ///< false: the source is at its end
  bool applied = false;  ///< false: not finite, skipped
  double lr = 0, grad_norm = 0;
  TimeSplit seconds;
  int64_t epoch = 0;
};

class Trainer {
 public:
  /// `params` are the initial weights.
  Trainer(TrainerParts parts, DraftParams params);
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Takes everything from a checkpoint of this run. Throws Error with the differing fields if it
  /// is another run's.
  void resume(const std::filesystem::path& checkpoint);
  /// Trains to the end, or until a signal asks to stop; writes checkpoints and metrics.jsonl.
  /// -> whether the run is complete
  bool run();

  /// One optimizer step over train.accumulate batches; their metrics are added to `metrics`.
  StepReport step(UnrollMetrics& metrics);
  Evaluation evaluate();

  int64_t total_steps() const { return total_steps_; }
  const TrainState& state() const { return state_; }
  const DraftParams& params() const { return params_; }
  const Optimizer& optimizer() const { return optimizer_; }
  const std::optional<Evaluation>& last_evaluation() const { return last_evaluation_; }

 private:
  /// Forward and backward of one batch -> its pairs. Gradients add up.
  int64_t accumulate(TrainBatch batch, UnrollMetrics& metrics, TimeSplit& seconds);
  /// The averaged weights where there are any: what is evaluated, and what a run is for.
  DraftParams result() const;
  void count_skipped(const std::vector<std::string>& documents);
  /// Evaluates and saves where the step is due for it, or the last.
  void finish_step(MetricsFile& file, bool ended);
  void evaluate_and_log(MetricsFile& file);
  void save(MetricsFile& file);
  TeacherHead teacher() const { return {&parts_.target.head(), &parts_.vocab}; }

  TrainerParts parts_;
  DraftParams params_;
  Optimizer optimizer_;
  Eagle3Draft draft_;
  Objective objective_;
  int64_t total_steps_;
  TrainState state_;
  int64_t bad_in_a_row_ = 0;
  int64_t saved_step_ = -1;  // of the checkpoint that `latest` points at
  std::optional<Evaluation> last_evaluation_;
};

}  // namespace aerie
