// aerie train --dry-run: memory, time and disk of a run before it starts.
#pragma once
#include "trainer/run_sources.h"
#include "trainer/trainer.h"

namespace aerie {

/// Takes a few steps and evaluates once, on a trainer that is thrown away afterwards; logs memory
/// by part, time by part and disk. Leaves nothing on disk.
void dry_run(const RunConfig& config, const DraftConfig& draft, const TargetModel& target,
             const TokenShards& shards, Trainer& trainer);
/// The same where the target has a config.json and no weights: what its shapes say.
void dry_run_from_shapes(const RunConfig& config, const ModelConfig& target,
                         const DraftConfig& draft, at::ScalarType dtype);

}  // namespace aerie
