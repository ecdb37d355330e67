// From a row of logits to a token. Randomness is a pure function of (seed, position), so that a
// request's tokens never depend on its neighbours, on the batch, or on how they were proposed.
#pragma once
#include <span>
#include <vector>

#include "decoding/penalties.h"
#include "decoding/sequence.h"
#include "kernels/ragged.h"

namespace aerie {

/// A draw from [0, 1) with 53 random bits (Philox 4x32-10; Salmon et al., SC 2011).
double counter_uniform(uint64_t seed, uint64_t position);

/// Index of the largest value, the first of equals. Throws if no value is a number.
int32_t argmax(std::span<const float> logits);

/// The law that a token is drawn from, sparse; probabilities sum to 1. `ids` are ascending.
struct TokenLaw {
  std::vector<int32_t> ids;
  std::vector<double> probabilities;
};
/// Temperature (must be > 0), then top-k, top-p, min-p.
TokenLaw token_law(std::span<const float> logits, const SamplingParams& params);
/// Inverse of the distribution function at `uniform`.
int32_t draw(const TokenLaw& law, double uniform);

/// The token after a row of logits that penalties have changed already; it will stand at `position`
/// of its sequence.
int32_t choose_token(std::span<const float> logits, const SamplingParams& params, int64_t position);

/// Throws Error naming the parameter that is out of its range for a vocabulary of `vocab`.
void check_sampling(const SamplingParams& params, int64_t vocab);

/// Whose a row of logits is.
struct RowRule {
  const SamplingParams* params;
  int64_t position;   ///< of the token to choose
  RowPast past = {};  ///< read only where `changes_logits(*params)`
};
/// logits [R,V] f32 -> R tokens, by the whole chain. Rows are shared out over the compute threads.
std::vector<int32_t> choose_tokens(const Tensor& logits, std::span<const RowRule> rules);
/// logits [R,V] f32 -> R most likely tokens.
std::vector<int32_t> argmax_rows(const Tensor& logits);

}  // namespace aerie
