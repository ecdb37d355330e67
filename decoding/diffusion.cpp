#include "decoding/diffusion.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "common/error.h"
#include "common/threads.h"
#include "decoding/page_table.h"
#include "decoding/verify.h"

namespace aerie {

namespace {

/// Shannon entropy in nats of the softmax of a row; a logit of -infinity is a token that cannot be.
float entropy_of(float* logits, int64_t width) {
  const Tensor row = at::from_blob(logits, {width}, at::kFloat);
  const Tensor log_p = at::log_softmax(row, 0);
  return -(log_p.exp() * log_p.clamp_min(-1e30)).sum().item<float>();
}

/// Rows of logits that are masks': a mask is no answer to a mask, and how sure each of them is.
/// [R], 0 for the other rows.
std::vector<float> read_masks(float* logits, int64_t width, std::span<const Chunk> chunks,
                              int64_t mask_token) {
  std::vector<int64_t> rows;
  int64_t end = 0;
  for (const Chunk& chunk : chunks) {
    end += static_cast<int64_t>(chunk.logit_rows.size());
    for (int64_t row = end - chunk.masks; row < end; ++row) rows.push_back(row);
  }
  std::vector<float> entropies(end);
  parallel_for(0, static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t last) {
    const c10::InferenceMode inference;
    for (int64_t i = begin; i < last; ++i) {
      float* row = logits + rows[i] * width;
      row[mask_token] = -std::numeric_limits<float>::infinity();
      entropies[rows[i]] = entropy_of(row, width);
    }
  });
  return entropies;
}

/// Rows of a chunk before the window's.
int64_t known_rows(const Chunk& chunk, const Window& window) {
  return chunk.rows() - window.size();
}

/// The filled run at the window's beginning, as the masks had it.
Verdict commit_run(const Chunk& chunk, const Window& window) {
  Verdict verdict;
  verdict.keep.resize(known_rows(chunk, window) + window.prefix());
  std::iota(verdict.keep.begin(), verdict.keep.end(), 0);
  for (int64_t place = 0; place < window.prefix(); ++place) {
    verdict.emit.push_back(window.token(place));
  }
  return verdict;
}

/// The run of guesses that the target's own choices hold up.
Verdict verify_run(const Chunk& chunk, std::span<const int32_t> chosen) {
  Chunk run;
  run.tokens.assign(chunk.tokens.begin(), chunk.tokens.begin() + chosen.size());
  return verify(run, chosen);
}

/// `held` of `guesses` held; what lies behind a stop was not judged.
void count_run(int64_t guesses, int64_t held, const Verdict& verdict, DraftStats& stats) {
  ++stats.forwards;
  if (static_cast<int64_t>(stats.reached.size()) < guesses) {
    stats.reached.resize(guesses);
    stats.accepted.resize(guesses);
  }
  const int64_t judged = static_cast<int64_t>(verdict.emit.size());
  for (int64_t depth = 0; depth < std::min({guesses, held + 1, judged}); ++depth) {
    ++stats.reached[depth];
    stats.accepted[depth] += depth < held;
  }
  for (int64_t i = 0; i < judged; ++i) stats.guessed.push_back(i < held);
}

Diffusion checked(const Diffusion& rule) {
  AERIE_CHECK(rule.window >= 1 && rule.window <= 64,
              "a window of diffusion has between 1 and 64 masks, not {}", rule.window);
  AERIE_CHECK(rule.fill.entropy >= 0 && rule.fill.position_penalty >= 0,
              "the entropy below which masks are filled and its penalty must be 0 or more, not {} "
              "and {}",
              rule.fill.entropy, rule.fill.position_penalty);
  AERIE_CHECK(rule.mask_token >= 0, "diffusion needs a token for its masks, not {}",
              rule.mask_token);
  return rule;
}

}  // namespace

DiffusionDecoder::DiffusionDecoder(const Diffusion& rule) : rule_(checked(rule)) {}

std::vector<Chunk> DiffusionDecoder::propose(std::span<Sequence* const> sequences,
                                             RowBudget budget) {
  const int64_t count = static_cast<int64_t>(sequences.size());
  const int64_t share = std::min(budget.rows, budget.logit_rows) / count;
  std::vector<Chunk> chunks;
  for (const Sequence* sequence : sequences) {
    AERIE_CHECK(
        rule_.exact || sequence->request.sampling.logprobs < 0,
        "diffusion without verification has no log probabilities: its tokens were chosen in "
        "earlier steps; decode exactly");
    Window& window = windows_[sequence->id];
    const int64_t rows = std::min(share, PageTable::room(*sequence));
    const int64_t room = std::min({rows - (sequence->known() - sequence->committed),
                                   sequence->remaining() - pending(), lookahead() - pending()});
    window.resize(std::clamp<int64_t>(window.prefix() + rule_.window, 0, room));
    chunks.push_back(chunk_of(*sequence, window));
  }
  return chunks;
}

Chunk DiffusionDecoder::chunk_of(const Sequence& sequence, const Window& window) const {
  Chunk chunk;
  const int64_t first = sequence.known(), missing = sequence.missing();
  if (missing > 0) chunk = known_chunk(sequence, sequence.committed, missing);
  if (!rule_.exact) chunk.logit_rows.clear();
  const auto add = [&](int64_t place, int64_t token, bool read) {
    if (read) chunk.logit_rows.push_back(static_cast<int32_t>(chunk.rows()));
    chunk.tokens.push_back(static_cast<int32_t>(token));
    chunk.positions.push_back(static_cast<int32_t>(first + place));
  };
  const int64_t prefix = window.prefix();
  for (const int64_t place : window.filled()) {
    add(place, window.token(place), rule_.exact && place < prefix);
  }
  for (const int64_t place : window.masks()) {
    add(place, rule_.mask_token, true);
    ++chunk.masks;
  }
  return chunk;
}

std::vector<Verdict> DiffusionDecoder::accept(std::span<Sequence* const> sequences,
                                              std::span<const Chunk> chunks,
                                              const StepOutput& output) {
  const Tensor& all = output.forward.logits;
  Tensor logits;
  std::vector<float> entropies;
  if (all.defined()) {
    logits = all.to(at::kCPU).contiguous();
    entropies =
        read_masks(logits.mutable_data_ptr<float>(), logits.size(1), chunks, rule_.mask_token);
  }
  const std::vector<int32_t> chosen = choose_all(sequences, chunks, logits);
  std::vector<Verdict> verdicts;
  for (size_t s = 0; s < chunks.size(); ++s) {
    const int64_t begin = output.batch.logit_start[s];
    const size_t count = chunks[s].logit_rows.size();
    const Answer answer{{chosen.data() + begin, count}, {entropies.data() + begin, count}};
    verdicts.push_back(chunks[s].prompt ? read_prompt(*sequences[s], chunks[s], answer)
                                        : judge(*sequences[s], chunks[s], answer));
  }
  return verdicts;
}

Verdict DiffusionDecoder::read_prompt(Sequence& sequence, const Chunk& chunk,
                                      const Answer& answer) {
  Verdict verdict = keep_prompt(chunk, rule_.exact ? answer.tokens : std::span<const int32_t>());
  apply_stop(sequence, verdict);
  sequence.stats.guessed.resize(sequence.stats.guessed.size() + verdict.emit.size());
  // After an eviction a window may wait behind what is known now.
  const auto window = windows_.find(sequence.id);
  if (window != windows_.end()) {
    window->second.drop(static_cast<int64_t>(verdict.emit.size()));
  }
  return verdict;
}

Verdict DiffusionDecoder::judge(Sequence& sequence, const Chunk& chunk, const Answer& answer) {
  Window& window = windows_.at(sequence.id);
  const int64_t guesses = rule_.exact ? window.prefix() : 0;
  Verdict verdict =
      rule_.exact ? verify_run(chunk, answer.tokens.first(guesses + 1)) : commit_run(chunk, window);
  const int64_t decided = static_cast<int64_t>(verdict.emit.size());
  apply_stop(sequence, verdict);
  count_run(guesses, rule_.exact ? decided - 1 : decided, verdict, sequence.stats);
  if (verdict.finish != FinishReason::kRunning) return verdict;
  const bool astray = guesses > 0 && decided == 1;  // no guess held: nor will what was built on it
  if (astray) {
    window.clear();
  } else {
    const auto masks = static_cast<size_t>(chunk.masks);
    fill(window, decided, {answer.tokens.last(masks), answer.entropies.last(masks)});
  }
  window.drop(decided);
  return verdict;
}

void DiffusionDecoder::fill(Window& window, int64_t from, const Answer& answer) const {
  std::vector<int64_t> places = window.masks();
  const auto passed = std::lower_bound(places.begin(), places.end(), from) - places.begin();
  places.erase(places.begin(), places.begin() + passed);
  const auto tokens = answer.tokens.subspan(passed);
  for (const size_t i : choose_masks(places, answer.entropies.subspan(passed), rule_.fill)) {
    window.fill(places[i], tokens[i]);
  }
  // A guess that will be verified costs no more than a mask.
  if (rule_.exact && !places.empty()) window.fill(places[0], tokens[0]);
}

void DiffusionDecoder::forget(const Sequence& sequence) {
  if (sequence.finish != FinishReason::kRunning) windows_.erase(sequence.id);
}

}  // namespace aerie
