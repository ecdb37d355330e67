#include "decoding/verify.h"

#include <algorithm>
#include <numeric>

#include "common/error.h"
#include "decoding/sampler.h"

namespace aerie {

namespace {

// The row after `row` that proposes `token`, or -1.
int64_t child_with(const Chunk& chunk, int64_t row, int32_t token) {
  if (chunk.parents.empty()) {
    return row + 1 < chunk.rows() && chunk.tokens[row + 1] == token ? row + 1 : -1;
  }
  for (int64_t next = row + 1; next < chunk.rows(); ++next) {
    if (chunk.parents[next] == row && chunk.tokens[next] == token) return next;
  }
  return -1;
}

bool is_mask(const Chunk& chunk, int64_t row) { return row >= chunk.rows() - chunk.masks; }

// What the token that `row` tells comes behind: all that the sequence knows, and the guesses on the
// row's path that are not known yet.
RowPast past_of(const Sequence& sequence, const Chunk& chunk, int64_t row) {
  if (is_mask(chunk, row)) row = chunk.rows() - chunk.masks - 1;
  const std::span<const int32_t> known(sequence.tokens);
  const size_t prompt = sequence.request.prompt.size();
  RowPast past{known.first(prompt), known.subspan(prompt), {}, sequence.request.stop_tokens};
  for (int64_t at = row; at >= 0 && chunk.positions[at] >= sequence.known();
       at = chunk.parents.empty() ? at - 1 : chunk.parents[at]) {
    past.guesses.push_back(chunk.tokens[at]);
  }
  return past;
}

}  // namespace

Verdict verify(const Chunk& chunk, std::span<const int32_t> chosen) {
  AERIE_CHECK(static_cast<int64_t>(chosen.size()) == chunk.rows(),
              "verification needs logits of all {} rows, not of {}", chunk.rows(), chosen.size());
  Verdict verdict;
  for (int64_t row = 0; row >= 0;) {
    verdict.keep.push_back(static_cast<int32_t>(row));
    verdict.emit.push_back(chosen[row]);
    row = child_with(chunk, row, chosen[row]);
  }
  return verdict;
}

Verdict keep_prompt(const Chunk& chunk, std::span<const int32_t> chosen) {
  Verdict verdict;
  verdict.keep.resize(chunk.rows());
  std::iota(verdict.keep.begin(), verdict.keep.end(), 0);
  verdict.emit.assign(chosen.begin(), chosen.end());
  return verdict;
}

void apply_stop(const Sequence& sequence, Verdict& verdict) {
  const std::vector<int64_t>& stops = sequence.request.stop_tokens;
  for (size_t i = 0; i < verdict.emit.size(); ++i) {
    const bool stop = std::find(stops.begin(), stops.end(), verdict.emit[i]) != stops.end();
    const bool full = static_cast<int64_t>(i) + 1 >= sequence.remaining();
    if (!stop && !full) continue;
    verdict.finish = stop ? FinishReason::kStop : FinishReason::kLength;
    verdict.emit.resize(i + 1);
    return;
  }
}

std::vector<int32_t> choose_all(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                                const Tensor& logits) {
  std::vector<RowRule> rules;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const SamplingParams& params = sequences[s]->request.sampling;
    for (const int32_t row : chunks[s].logit_rows) {
      const int64_t ahead = is_mask(chunks[s], row) ? 0 : 1;
      rules.push_back({&params, chunks[s].positions[row] + ahead});
      if (changes_logits(params)) rules.back().past = past_of(*sequences[s], chunks[s], row);
    }
  }
  if (rules.empty()) return {};
  return choose_tokens(logits, rules);
}

}  // namespace aerie
