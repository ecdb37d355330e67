// A run on disk, complete enough to go on bit for bit:
//   step-000123/draft/{config.json,model.safetensors}   the draft in bf16, ready to decode with
//   step-000123/masters.safetensors                     f32 weights
//   step-000123/moments.safetensors                     AdamW's, f32
//   step-000123/average.safetensors                     f32, with optim.ema: the draft is this one
//   step-000123/state.json                              everything else
//   step-000123/config.yaml                             the resolved configuration
//   latest -> step-000123, best -> step-000100
// A checkpoint directory appears whole or not at all.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/directory_lock.h"
#include "draft_models/draft.h"
#include "trainer/optimizer.h"

namespace aerie {

/// The best evaluation so far.
struct BestSoFar {
  int64_t step = -1;   ///< -1: none yet
  double value = 0;    ///< acceptance length
  std::string metric;  ///< "acceptance" (measured by decoding) or "tau_sim"
  int64_t waited = 0;  ///< evaluations since then
};

/// What must agree for a resumed run to be the same run: key -> value, readable in a diff.
using RunFacts = std::map<std::string, std::string>;

struct TrainState {
  int64_t step = 0;              ///< steps done
  int64_t updates = 0;           ///< steps that changed the weights
  int64_t tokens = 0;            ///< rows trained on
  int64_t supervised = 0;        ///< of them the assistant's
  int64_t skipped_steps = 0;     ///< steps whose gradient was not finite
  double seconds = 0;            ///< spent training, over all resumptions
  int64_t metrics_position = 0;  ///< bytes of metrics.jsonl that belong to these steps
  uint64_t seed = 0;             ///< of initial weights and data order; no other draw is made
  int64_t packs_per_step = 0;    ///< of all ranks together; 0: not known (an older checkpoint)
  std::string cursor;            ///< HiddenStateSource::cursor()
  BestSoFar best;
  RunFacts facts;
};

/// What training goes on from.
struct TrainingContent {
  const TrainState& state;
  const DraftParams& masters;
  const Moments& moments;
  std::string config_yaml;
  DraftParams average = {};  ///< with optim.ema
};
/// The same as below, beside whatever `write_model` puts into the new directory.
std::filesystem::path save_checkpoint(
    const std::filesystem::path& run_dir, const TrainingContent& content,
    const std::function<void(const std::filesystem::path& directory)>& write_model);

struct CheckpointContent {
  const TrainState& state;
  const DraftConfig& config;
  const DraftParams& masters;
  const VocabMap& vocab;
  const Moments& moments;
  std::string config_yaml;
  DraftParams average = {};  ///< with optim.ema: the draft is made of it
};
/// Writes `run_dir`/step-NNNNNN and points `latest` at it. On failure (disk full) nothing of it is
/// left, `latest` still points at the previous one, and Error says so.
/// -> the new directory
std::filesystem::path save_checkpoint(const std::filesystem::path& run_dir,
                                      const CheckpointContent& content);

/// Throws Error naming the file that is missing or damaged.
TrainState read_state(const std::filesystem::path& checkpoint);
/// The content of state.json, and back: ranks send it to each other. `origin` is for messages.
std::string state_text(const TrainState& state);
TrainState parse_state(const std::string& text, const std::string& origin);
/// f32 weights by name, as training goes on from them.
DraftParams read_masters(const std::filesystem::path& checkpoint);
Moments read_moments(const std::filesystem::path& checkpoint);
/// The f32 weights that the checkpoint's draft is made of: the average where there is one.
DraftParams read_result(const std::filesystem::path& checkpoint);

/// Makes the run's directory where there is none and keeps other runs out of it for as long as the
/// object lives. Throws Error where one is there.
std::unique_ptr<DirectoryLock> hold_run(const std::filesystem::path& run_dir);

/// The checkpoint that a run goes on from, if any. `resume`: auto | never | a directory. Throws
/// Error where it is never and there are checkpoints.
std::optional<std::filesystem::path> resume_from(const std::filesystem::path& run_dir,
                                                 const std::string& resume);
/// The newest complete checkpoint of a run, or nothing.
std::optional<std::filesystem::path> find_latest(const std::filesystem::path& run_dir);
/// Points `best` at the checkpoint of `step`.
void mark_best(const std::filesystem::path& run_dir, int64_t step);
/// Removes all but the newest `keep` checkpoints and the best, and what a killed run left behind.
void prune_checkpoints(const std::filesystem::path& run_dir, int64_t keep);

}  // namespace aerie
