// Log probabilities of what was emitted, for requests that ask for them.
#pragma once
#include <span>

#include "decoding/decoder.h"

namespace aerie {

/// Of `chosen` and of the `count` most likely tokens in a row of logits; of equals the lower id
/// comes first.
PlaceLogprobs place_logprobs(std::span<const float> logits, int32_t chosen, int64_t count);

/// Appends to `sequence.logprobs` one place for each token of every verdict, in the sequences that
/// want them. The token number i of a verdict was chosen after the row keep[i] of its chunk, the
/// one of a prompt after its last row. Call before the verdicts are committed.
void note_logprobs(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                   std::span<const Verdict> verdicts, const StepOutput& output);

}  // namespace aerie
