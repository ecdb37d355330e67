// What a new draft takes from its target.
#pragma once
#include "draft_models/draft.h"
#include "target_models/model.h"

namespace aerie {

/// The head: the target's rows of the draft vocabulary.
DraftStart start_from_head(const TargetModel& target, const VocabMap& vocab);

/// The body: the draft's layer starts as the target's last decoder layer, reading the features
/// where that layer reads the residual stream; fc passes the latest captured layer on and adds a
/// little noise of all of them; the final norm is the target's. The half of q, k and v that reads
/// the embedding has no counterpart and stays small noise. Queries and keys that only one of the
/// two norms would mean nothing to the other: they stay noise (draft.body has to be the target's).
/// So a few passes over a few hundred answers reach what takes a draft of noise several times as
/// long (README, "What it measures"). The noise is drawn from (seed, name). Throws Error if the
/// target has no such layer.
DraftStart start_from_layer(const DraftConfig& config, const TargetModel& target, uint64_t seed);

}  // namespace aerie
