// What the flags of commands mean to the engine.
#pragma once
#include <memory>
#include <string>

#include "decoding/commands.h"
#include "decoding/decoders.h"
#include "decoding/diffusion.h"
#include "decoding/engine.h"
#include "decoding/speculative.h"

namespace aerie {

Speculation speculation_of(const TreeFlags& flags, int64_t draft_tokens);
Diffusion diffusion_of(const DiffusionFlags& flags, bool exact);

/// Throws Error as make_decoder does, and for a tree or an adaptive depth of what has none.
std::unique_ptr<Decoder> decoder_of(const DecoderFlags& flags, const TargetModel& target);

/// Throws Error for an unknown policy.
SchedulerLimits limits_of(const ScheduleFlags& flags, const std::string& policy,
                          int64_t row_budget);

/// Whether the engine must be told what forwards cost.
bool needs_cost(const TreeFlags& tree, const ScheduleFlags& schedule);

}  // namespace aerie
