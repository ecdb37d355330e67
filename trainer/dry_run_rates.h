// What a dry run measures: every part of a run once or a few times, with files beside those that
// the run will write.
#pragma once
#include "trainer/run_sources.h"
#include "trainer/time_estimate.h"
#include "trainer/trainer.h"

namespace aerie {

/// A directory that is gone, with all in it, when the object goes.
class PassingDirectory {
 public:
  /// On the disk of `place`, which need not exist: in its nearest parent that does.
  explicit PassingDirectory(const std::filesystem::path& place);
  ~PassingDirectory();
  PassingDirectory(const PassingDirectory&) = delete;
  PassingDirectory& operator=(const PassingDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// What the run of a dry run stands on. Its sources fill a passing store where the mode is hybrid.
struct DryRunParts {
  const RunConfig& config;
  const DraftConfig& draft;
  const TargetModel& target;
  const TokenShards& shards;
  HiddenStateSource& train;
  Trainer& trainer;
  double start = 0;  ///< seconds until the trainer was ready
};

struct DryRunMeasured {
  RunRates rates;
  int64_t steps = 0, tokens = 0;  ///< of the steps behind the first
  double seconds = 0, loss = 0;   ///< of them
};

/// Takes some steps, evaluates and writes. Throws Error where the data hold no batch that trains.
DryRunMeasured measure_run(const DryRunParts& parts);

}  // namespace aerie
