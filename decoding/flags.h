// What the flags of commands mean to the engine.
#pragma once
#include <string>

#include "decoding/commands.h"
#include "decoding/diffusion.h"
#include "decoding/engine.h"
#include "decoding/speculative.h"

namespace aerie {

Speculation speculation_of(const TreeFlags& flags, int64_t draft_tokens);
Diffusion diffusion_of(const DiffusionFlags& flags, bool exact);

/// Throws Error for an unknown policy.
SchedulerLimits limits_of(const ScheduleFlags& flags, const std::string& policy,
                          int64_t row_budget);

/// Whether the engine must be told what forwards cost.
bool needs_cost(const TreeFlags& tree, const ScheduleFlags& schedule);

}  // namespace aerie
