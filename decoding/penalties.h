// The part of the sampling chain that looks at what stands before a token: minimum length, biases,
// penalties. A guess is verified against the same changed logits, with the guesses before it
// counted as output, so speculation stays lossless under penalties.
#pragma once
#include <span>
#include <vector>

#include "decoding/sequence.h"

namespace aerie {

/// What a token comes behind. The spans belong to a sequence and do not outlive it.
struct RowPast {
  std::span<const int32_t> prompt, output;
  std::vector<int32_t> guesses;          ///< proposed after the output, in any order
  std::span<const int64_t> stop_tokens;  ///< what min_tokens keeps away

  int64_t new_tokens() const { return static_cast<int64_t>(output.size() + guesses.size()); }
};

/// Whether `change_logits` does anything for some past.
bool changes_logits(const SamplingParams& params);

/// In the order of the fields of SamplingParams: stop tokens impossible below min_tokens, bias,
/// repetition, frequency and presence penalty. Ids are inside the vocabulary (check_sampling).
void change_logits(std::span<float> logits, const SamplingParams& params, const RowPast& past);

}  // namespace aerie
