// aerie train --dry-run: memory, time and disk of a run before it starts.
#pragma once
#include "trainer/dry_run_rates.h"

namespace aerie {

/// Takes a few steps, evaluates and writes once, on a trainer that is thrown away afterwards; logs
/// memory by part, time by part and disk. Leaves nothing on disk.
void dry_run(const DryRunParts& parts);
/// The same where the target has a config.json and no weights: what its shapes say.
void dry_run_from_shapes(const RunConfig& config, const ModelConfig& target,
                         const DraftConfig& draft, at::ScalarType dtype);

}  // namespace aerie
