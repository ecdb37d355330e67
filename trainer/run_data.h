// The data of a run: which files, prepared how, where.
#pragma once
#include "configs/run_config.h"
#include "data/prepare_report.h"
#include "trainer/warm_start.h"

namespace aerie {

/// What `aerie prepare` and `aerie train` make of a run file: both must agree, or training would
/// prepare again.
PrepareOptions prepare_options(const RunConfig& config);
/// The same for a run whose initial draft was read already (trainer/warm_start.h).
PrepareOptions prepare_options(const RunConfig& config, const std::optional<LoadedDraft>& initial);

/// Throws Error: a whole pass over the data brought no token to train on.
[[noreturn]] void refuse_untrainable(const RunConfig& config);

/// Leaves config.yaml and data.json in output.dir: what the run was asked to do, and on what data.
void describe_run(const RunConfig& config, const PrepareReport& prepared);

}  // namespace aerie
