// Converts a target to diffusion: all its layers learn to fill masks, and to say the next token as
// before. On one process, on the CPU.
#pragma once
#include "trainer/checkpoint.h"
#include "trainer/commands.h"
#include "trainer/dual_stream_loss.h"
#include "trainer/pack_sequence.h"
#include "trainer/run_log.h"

namespace aerie {

class WedlmTrainer {
 public:
  struct Parts {
    const RunConfig& config;
    const TokenShards& train;
    const TokenShards* heldout;  ///< null: no evaluation
    RunFacts facts;
    at::ScalarType dtype = at::kBFloat16;
  };
  /// References outlive the trainer.
  explicit WedlmTrainer(Parts parts);
  WedlmTrainer(const WedlmTrainer&) = delete;
  WedlmTrainer& operator=(const WedlmTrainer&) = delete;

  /// Goes on from a checkpoint of this run. Throws Error with the fields that differ, except those
  /// of `overrides`.
  void resume(const std::filesystem::path& checkpoint, const std::vector<std::string>& overrides);
  /// Trains to the end, or until a signal asks to stop; checkpoints hold the target as it is then.
  /// -> whether the run is complete
  bool run();

  /// One optimizer step; what it found is added to `found`. False: the data are at their end.
  bool step(DualStreamLoss& found);
  /// The loss on held-out documents, with the same masks every time.
  DualStreamLoss evaluate();

  const TrainState& state() const { return state_; }
  const Optimizer& optimizer() const { return optimizer_; }
  int64_t total_steps() const { return total_steps_; }

 private:
  DualStream plan(const PackSequence& packs, const Pack& pack) const;
  void save(const RunLog& log);
  void log_step(RunLog& log, const DualStreamLoss& found, double seconds) const;
  void log_evaluation(RunLog& log);

  Parts parts_;
  DraftParams params_;
  Optimizer optimizer_;
  TrainableTarget target_;
  PackSequence packs_;
  int64_t total_steps_;
  TrainState state_;
  int64_t epoch_ = 0, saved_step_ = -1;
  double lr_ = 0, grad_norm_ = 0;
};

/// aerie train with train.objective wedlm.
void wedlm_command(const RunConfig& config, const TrainFlags& flags);

}  // namespace aerie
