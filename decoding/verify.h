// Which proposed rows hold. The target chooses its own token after every row (greedy, or drawn with
// the whole sampling chain); the walk follows it as long as somebody proposed just that token. With
// drafts that are deterministic given the past (an argmax: a point mass) this is the rule "accept x
// with p(x), else draw from p without x", so the output's law is the target's.
#pragma once
#include <span>

#include "decoding/batch.h"
#include "decoding/decoder.h"

namespace aerie {

/// `chosen`: the target's token after each row of the chunk. Row 0 always stays. Chains and trees.
Verdict verify(const Chunk& chunk, std::span<const int32_t> chosen);

/// Prompt rows all stay; `chosen` is the one new token, or empty if the prompt goes on.
Verdict keep_prompt(const Chunk& chunk, std::span<const int32_t> chosen);

/// Cuts what is emitted behind the first stop token and at the token limit, and says which it was.
void apply_stop(const Sequence& sequence, Verdict& verdict);

/// The target's token after every row of logits, or at its place if the row is a mask; chunk after
/// chunk, drawn for its position.
std::vector<int32_t> choose_all(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                                const Tensor& logits);

}  // namespace aerie
