#include "decoding/speculative.h"

#include <algorithm>

#include "common/error.h"
#include "decoding/clock.h"
#include "decoding/verify.h"

namespace aerie {

namespace {

// Guesses that can still be of use: the last token that is allowed comes for free.
std::vector<int64_t> allowed_depths(std::span<Sequence* const> sequences, int64_t draft_tokens,
                                    RowBudget budget) {
  const int64_t count = static_cast<int64_t>(sequences.size());
  const int64_t share = std::max<int64_t>(0, budget.rows / std::max<int64_t>(1, count) - 1);
  std::vector<int64_t> depths;
  for (const Sequence* sequence : sequences) {
    depths.push_back(std::min({draft_tokens, share, sequence->remaining() - 1}));
  }
  return depths;
}

void count_guesses(const Chunk& chunk, const Verdict& verdict, DraftStats& stats) {
  ++stats.forwards;
  const int64_t guesses = chunk.rows() - 1;
  if (static_cast<int64_t>(stats.reached.size()) < guesses) {
    stats.reached.resize(guesses);
    stats.accepted.resize(guesses);
  }
  // A run that was cut at a stop has no judgement on what lies behind.
  const int64_t held = static_cast<int64_t>(verdict.keep.size()) - 1;
  const int64_t emitted = static_cast<int64_t>(verdict.emit.size());
  for (int64_t depth = 0; depth < std::min({guesses, held + 1, emitted}); ++depth) {
    ++stats.reached[depth];
    if (depth < held) ++stats.accepted[depth];
  }
}

Observation observation_of(Sequence* sequence, const Chunk& chunk, const Verdict& verdict) {
  Observation seen{sequence, chunk.positions[0], {}, {}, !verdict.emit.empty()};
  const int64_t rows = static_cast<int64_t>(verdict.keep.size());
  for (int64_t row = 0; row + 1 < rows; ++row) seen.next_tokens.push_back(chunk.tokens[row + 1]);
  // The row after the last one is the new token, or further prompt.
  seen.next_tokens.push_back(verdict.emit.empty() ? sequence->tokens[chunk.positions.back() + 1]
                                                  : verdict.emit.back());
  return seen;
}

}  // namespace

ChainDecoder::ChainDecoder(std::unique_ptr<Drafter> drafter, int64_t draft_tokens)
    : drafter_(std::move(drafter)), draft_tokens_(draft_tokens) {
  AERIE_CHECK(draft_tokens >= 1 && draft_tokens <= 64,
              "draft_tokens must be between 1 and 64, not {}", draft_tokens);
}

std::vector<Chunk> ChainDecoder::propose(std::span<Sequence* const> sequences, RowBudget budget) {
  const double start = seconds_now();
  const std::vector<int64_t> depths = allowed_depths(sequences, draft_tokens_, budget);
  const std::vector<std::vector<int32_t>> guesses = drafter_->guess(sequences, depths);
  draft_seconds_ += seconds_now() - start;
  std::vector<Chunk> chunks;
  for (size_t s = 0; s < sequences.size(); ++s) {
    Chunk chunk = known_chunk(*sequences[s], sequences[s]->committed, 1);
    for (const int32_t guess : guesses[s]) {
      chunk.tokens.push_back(guess);
      chunk.positions.push_back(chunk.positions.back() + 1);
      chunk.logit_rows.push_back(chunk.logit_rows.back() + 1);
    }
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

std::vector<Verdict> ChainDecoder::accept(std::span<Sequence* const> sequences,
                                          std::span<const Chunk> chunks, const StepOutput& output) {
  const std::vector<int32_t> chosen = choose_all(sequences, chunks, output.forward.logits);
  std::vector<Verdict> verdicts;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const std::span<const int32_t> own(chosen.data() + output.batch.logit_start[s],
                                       chunks[s].logit_rows.size());
    Verdict verdict = chunks[s].prompt ? keep_prompt(chunks[s], own) : verify(chunks[s], own);
    DraftStats& stats = sequences[s]->stats;
    const size_t held = chunks[s].prompt ? 0 : verdict.keep.size() - 1;
    apply_stop(*sequences[s], verdict);
    if (!chunks[s].prompt) count_guesses(chunks[s], verdict, stats);
    for (size_t i = 0; i < verdict.emit.size(); ++i) stats.guessed.push_back(i < held);
    verdicts.push_back(std::move(verdict));
  }
  const double start = seconds_now();
  observe(sequences, chunks, verdicts, output);
  draft_seconds_ += seconds_now() - start;
  return verdicts;
}

void ChainDecoder::observe(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                           std::span<const Verdict> verdicts, const StepOutput& output) {
  std::vector<Observation> observations;
  for (size_t s = 0; s < chunks.size(); ++s) {
    if (verdicts[s].finish != FinishReason::kRunning) continue;
    Observation seen = observation_of(sequences[s], chunks[s], verdicts[s]);
    if (output.forward.captured.defined()) {
      seen.captured = output.forward.captured.narrow(0, output.batch.row_start[s],
                                                     static_cast<int64_t>(seen.next_tokens.size()));
    }
    observations.push_back(std::move(seen));
  }
  if (!observations.empty()) drafter_->observe(observations);
}

}  // namespace aerie
