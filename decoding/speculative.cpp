#include "decoding/speculative.h"

#include <algorithm>
#include <functional>

#include "common/error.h"
#include "decoding/clock.h"
#include "decoding/page_table.h"
#include "decoding/verify.h"

namespace aerie {

namespace {

/// Rows behind the pending token that the sequence has pages for.
int64_t room_in_pages(const Sequence& sequence) { return PageTable::room(sequence) - 1; }

bool has_child(const Chunk& chunk, int32_t row) {
  if (chunk.parents.empty()) return row + 1 < chunk.rows();
  return std::find(chunk.parents.begin() + row + 1, chunk.parents.end(), row) !=
         chunk.parents.end();
}

Chunk chunk_of(const Sequence& sequence, const Guess& guess) {
  Chunk chunk = known_chunk(sequence, sequence.committed, 1);
  if (!guess.parents.empty()) chunk.parents = {-1};
  for (size_t i = 0; i < guess.tokens.size(); ++i) {
    const int32_t row = static_cast<int32_t>(i) + 1;
    const int32_t parent = guess.parents.empty() ? row - 1 : guess.parents[i] + 1;
    chunk.tokens.push_back(guess.tokens[i]);
    chunk.positions.push_back(chunk.positions[parent] + 1);
    chunk.logit_rows.push_back(row);
    if (!guess.parents.empty()) chunk.parents.push_back(parent);
  }
  return chunk;
}

/// Keeps the guesses that raise expected tokens faster than the step's time, all sequences weighed
/// together. Parents are never less likely than their children, so no branch loses its root.
void keep_what_pays(std::vector<Guess>& guesses, const RowBudget& budget) {
  std::vector<float> chances;
  for (const Guess& guess : guesses) {
    chances.insert(chances.end(), guess.chances.begin(), guess.chances.end());
  }
  std::sort(chances.begin(), chances.end(), std::greater<>());
  double tokens = static_cast<double>(guesses.size());
  std::vector<Offer> offers;
  const auto offer = [&](size_t nodes) {
    const int64_t rows = static_cast<int64_t>(guesses.size() + nodes);
    offers.push_back({tokens, budget.cost->seconds(rows, rows),
                      budget.cost->seconds(rows + budget.prompt_rows, rows)});
  };
  offer(0);
  for (size_t n = 0; n < chances.size(); ++n) {
    tokens += chances[n];
    offer(n + 1);
  }
  const size_t count = best_offer(offers, 1.0);
  const float least = count == 0 ? 2 : chances[count - 1];  // 2: nothing pays
  for (Guess& guess : guesses) {
    if (guess.chances.empty()) continue;
    Guess kept;
    std::vector<int32_t> place(guess.tokens.size(), -1);
    for (size_t i = 0; i < guess.tokens.size(); ++i) {
      const int32_t parent = guess.parents[i];
      if (guess.chances[i] < least || (parent >= 0 && place[parent] < 0)) continue;
      place[i] = static_cast<int32_t>(kept.tokens.size());
      kept.tokens.push_back(guess.tokens[i]);
      kept.parents.push_back(parent < 0 ? -1 : place[parent]);
      kept.chances.push_back(guess.chances[i]);
    }
    guess = std::move(kept);
  }
}

Observation observation_of(Sequence* sequence, const Chunk& chunk, const Verdict& verdict) {
  Observation seen{sequence, chunk.positions[0], {}, {}, !verdict.emit.empty()};
  for (size_t i = 1; i < verdict.keep.size(); ++i) {
    seen.next_tokens.push_back(chunk.tokens[verdict.keep[i]]);
  }
  // The row after the last one is the new token, or further prompt.
  seen.next_tokens.push_back(verdict.emit.empty() ? sequence->tokens[chunk.positions.back() + 1]
                                                  : verdict.emit.back());
  return seen;
}

/// States of the kept rows; `first` is the chunk's first row.
Tensor kept_states(const Tensor& captured, int64_t first, const std::vector<int32_t>& keep) {
  const int64_t count = static_cast<int64_t>(keep.size());
  if (keep.back() + 1 == count) return captured.narrow(0, first, count);
  std::vector<int64_t> rows;
  for (const int32_t row : keep) rows.push_back(first + row);
  return captured.index_select(0, to_tensor(rows, at::kLong).to(captured.device()));
}

Speculation checked(Speculation rule) {
  AERIE_CHECK(rule.draft_tokens >= 1 && rule.draft_tokens <= 64,
              "draft_tokens must be between 1 and 64, not {}", rule.draft_tokens);
  AERIE_CHECK(rule.width >= 1 && rule.width <= 32,
              "a tree tries between 1 and 32 children of a guess, not {}", rule.width);
  if (rule.nodes == 0) rule.nodes = rule.draft_tokens;
  AERIE_CHECK(rule.nodes >= 1 && rule.nodes <= 128,
              "a tree of guesses has between 1 and 128 nodes, not {}", rule.nodes);
  return rule;
}

}  // namespace

SpeculativeDecoder::SpeculativeDecoder(std::unique_ptr<Drafter> drafter,
                                       const Speculation& speculation)
    : drafter_(std::move(drafter)), rule_(checked(speculation)), adaptive_(rule_.draft_tokens) {}

// Guesses that can be of use and that the budgets have room for: the last token that is allowed
// comes for free.
void SpeculativeDecoder::choose_shapes(std::span<Sequence* const> sequences,
                                       const RowBudget& budget) {
  const int64_t count = static_cast<int64_t>(sequences.size());
  const auto share_of = [count](int64_t rows) { return rows / std::max<int64_t>(1, count); };
  const int64_t share =
      std::max<int64_t>(0, share_of(std::min(budget.rows, budget.logit_rows)) - 1);
  const bool tree = rule_.width > 1;
  // A chain runs one row a guess; a tree its whole frontier on every level but the last.
  const int64_t drafted = std::max<int64_t>(0, share_of(budget.draft_rows));
  const int64_t levels = tree && budget.draft_rows < RowBudget::kUnlimited
                             ? drafted / rule_.width + (drafted > 0 ? 1 : 0)
                             : drafted;
  limits_.clear();
  late_rows_.clear();
  for (const Sequence* sequence : sequences) {
    // A step brings as many rows as it keeps; what is more has gathered while nobody asked.
    late_rows_.push_back(
        std::max<int64_t>(0, drafter_->backlog(*sequence) - rule_.draft_tokens - 1));
    const int64_t room = std::min({share, room_in_pages(*sequence), sequence->remaining() - 1});
    // Adaptive chains share the rows unevenly: their budget is looked at as a whole.
    const bool shared = rule_.adaptive && !tree;
    const int64_t limit =
        shared ? std::min(room_in_pages(*sequence), sequence->remaining() - 1) : room;
    limits_.push_back(
        std::clamp<int64_t>(std::min(limit, shared ? limit : levels), 0, rule_.draft_tokens));
  }
  if (rule_.adaptive) {
    adaptive_.choose(sequences, limits_, late_rows_, budget, depths_);
  } else {
    depths_ = limits_;
  }
  shapes_.clear();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int64_t nodes =
        tree ? std::min({rule_.nodes, share, room_in_pages(*sequences[s])}) : depths_[s];
    shapes_.push_back({depths_[s], rule_.width, nodes});
  }
}

std::vector<Guess> SpeculativeDecoder::draft(std::span<Sequence* const> sequences,
                                             const RowBudget& budget) {
  const double start = seconds_now();
  choose_shapes(sequences, budget);
  int64_t active = 0, deepest = 0, late_rows = 0;
  for (size_t s = 0; s < depths_.size(); ++s) {
    if (depths_[s] == 0) continue;
    ++active;
    deepest = std::max(deepest, depths_[s]);
    late_rows += late_rows_[s];
  }
  if (active == 0) return std::vector<Guess>(sequences.size());
  const double chosen = seconds_now();
  std::vector<Guess> guesses = drafter_->guess(sequences, shapes_);
  const double seconds = seconds_now() - chosen;
  if (budget.cost != nullptr && rule_.adaptive) {
    adaptive_.drafted(active, deepest, late_rows, seconds, *budget.cost);
    if (rule_.width > 1) keep_what_pays(guesses, budget);
  }
  draft_seconds_ += seconds_now() - start;
  return guesses;
}

std::vector<Chunk> SpeculativeDecoder::propose(std::span<Sequence* const> sequences,
                                               RowBudget budget) {
  const std::vector<Guess> guesses = draft(sequences, budget);
  std::vector<Chunk> chunks;
  for (size_t s = 0; s < sequences.size(); ++s) {
    chunks.push_back(chunk_of(*sequences[s], guesses[s]));
  }
  return chunks;
}

void SpeculativeDecoder::count_guesses(const Chunk& chunk, const Verdict& verdict,
                                       DraftStats& stats) {
  ++stats.forwards;
  const auto deepest = std::max_element(chunk.positions.begin(), chunk.positions.end());
  const size_t levels = static_cast<size_t>(*deepest - chunk.positions[0]);
  if (stats.reached.size() < levels) {
    stats.reached.resize(levels);
    stats.accepted.resize(levels);
  }
  // A run that was cut at a stop has no judgement on what lies behind.
  const size_t judged = std::min(verdict.keep.size(), verdict.emit.size());
  for (size_t depth = 0; depth < judged && has_child(chunk, verdict.keep[depth]); ++depth) {
    const bool held = depth + 1 < verdict.keep.size();
    ++stats.reached[depth];
    stats.accepted[depth] += held;
    adaptive_.judged(static_cast<int64_t>(depth), held);
  }
}

std::vector<Verdict> SpeculativeDecoder::accept(std::span<Sequence* const> sequences,
                                                std::span<const Chunk> chunks,
                                                const StepOutput& output) {
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

void SpeculativeDecoder::observe(std::span<Sequence* const> sequences,
                                 std::span<const Chunk> chunks, std::span<const Verdict> verdicts,
                                 const StepOutput& output) {
  std::vector<Observation> observations;
  for (size_t s = 0; s < chunks.size(); ++s) {
    if (verdicts[s].finish != FinishReason::kRunning) continue;
    Observation seen = observation_of(sequences[s], chunks[s], verdicts[s]);
    if (output.forward.captured.defined()) {
      seen.captured =
          kept_states(output.forward.captured, output.batch.row_start[s], verdicts[s].keep);
    }
    observations.push_back(std::move(seen));
  }
  if (!observations.empty()) drafter_->observe(observations);
}

}  // namespace aerie
