#include "decoding/eagle3_drafter.h"

#include <cmath>
#include <numeric>

#include "common/error.h"
#include "decoding/batch.h"
#include "decoding/page_table.h"
#include "decoding/sampler.h"

namespace aerie {

namespace {

/// Rows of a sequence that are written without being asked for: so many that their states would
/// take memory; where prompts are to be shared, as few as are worth a forward of the draft.
constexpr int64_t kWriteRows = 256, kWriteSharedRows = 32;
/// Pages of the draft's cache for branches of trees: 16 trees of 8 branches, two pages each.
constexpr int64_t kBranchPages = 256;

Tensor join(const std::vector<Tensor>& parts) {
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

}  // namespace

Eagle3Drafter::Eagle3Drafter(Eagle3Draft draft, const VocabMap& vocab, at::ScalarType dtype,
                             at::Device device)
    : draft_(std::move(draft)),
      dtype_(dtype),
      device_(device),
      scale_(1.0 / std::sqrt(static_cast<double>(draft_.config().head_dim))) {
  const Tensor map = vocab.draft_to_target.to(at::kCPU).contiguous();
  AERIE_CHECK(map.numel() == draft_.config().draft_vocab,
              "the vocabulary map has {} entries and the draft's head {} rows: they belong to "
              "different drafts",
              map.numel(), draft_.config().draft_vocab);
  const int64_t* ids = map.const_data_ptr<int64_t>();
  to_target_.assign(ids, ids + map.numel());
}

void Eagle3Drafter::attach(int64_t pages, bool share_prefixes) {
  const DraftConfig& config = draft_.config();
  write_rows_ = share_prefixes ? kWriteSharedRows : kWriteRows;
  shared_pages_ = pages;
  pool_ = ops::make_kv_pool(config.layers, pages + kBranchPages, config.kv_heads, config.head_dim,
                            dtype_, device_);
  tracks_.clear();
}

DraftStep Eagle3Drafter::run(const Rows& rows, const Tensor& hidden) {
  RaggedLayout layout;
  std::vector<int64_t> starts(rows.kv_len.size() + 1);
  std::iota(starts.begin(), starts.end(), 0);
  layout.q_start = to_tensor(starts, at::kInt).to(device_);
  layout.kv_len = to_tensor(rows.kv_len, at::kInt).to(device_);
  layout.pages = rows.pages.to(device_);
  layout.max_q = 1;
  for (const int32_t length : rows.kv_len) layout.max_kv = std::max<int64_t>(layout.max_kv, length);
  const Tensor slots = to_tensor(rows.slots, at::kLong).to(device_);
  int64_t layer = 0;
  const Attend attend = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    ops::kv_append_(pool_, layer, k, v, slots);
    const int64_t own = layer++;
    if (q.size(0) == 0) return q;
    return ops::ragged_attention(q, pool_, own, layout, scale_, draft_.config().window);
  };
  const bool all = rows.queries.size() == rows.tokens.size();
  const Tensor queries = all ? Tensor() : to_tensor(rows.queries, at::kLong).to(device_);
  InputEmbeds embeds;
  if (!rows.media.empty()) embeds = {rows.media.embeds(), rows.media.rows().to(device_)};
  return draft_.step(to_tensor(rows.tokens, at::kLong).to(device_), hidden,
                     rows.rope.tensor().to(device_), queries, attend, embeds);
}

void Eagle3Drafter::observe(std::span<const Observation> observations) {
  std::vector<Track*> due;
  for (const Observation& seen : observations) {
    const auto [place, is_new] = tracks_.try_emplace(seen.sequence->id);
    Track& track = place->second;
    if (is_new) {
      track.sequence = seen.sequence;
      track.cached = seen.first_position;
    }
    const int64_t count = static_cast<int64_t>(seen.next_tokens.size());
    // Beyond the draft's own context there is nothing to guess with: decoding goes on without.
    track.lost = track.lost || seen.first_position + count > draft_.config().max_position;
    if (track.lost) {
      track.captured.clear();
      track.next_tokens.clear();
      continue;
    }
    track.captured.push_back(seen.captured);
    track.next_tokens.insert(track.next_tokens.end(), seen.next_tokens.begin(),
                             seen.next_tokens.end());
    if (static_cast<int64_t>(track.next_tokens.size()) >= write_rows_) due.push_back(&track);
  }
  write(due);
}

// Puts the kept rows of the tracks into the cache and learns where their next guesses start.
void Eagle3Drafter::write(std::span<Track* const> tracks) {
  if (tracks.empty()) return;
  Rows rows{RopePositions(draft_.config().rope.axes())};
  std::vector<Tensor> captured;
  std::vector<Sequence*> sequences;
  // The last layer's queries of older rows serve nobody; those of lower layers feed its keys.
  const bool deep = draft_.config().layers > 1;
  std::vector<int64_t> newest;  // among the queries
  for (Track* track : tracks) {
    captured.insert(captured.end(), track->captured.begin(), track->captured.end());
    if (draft_.config().use_input_embeds) {
      rows.media.add(*track->sequence, track->cached + 1,
                     static_cast<int64_t>(track->next_tokens.size()),
                     static_cast<int64_t>(rows.tokens.size()));
    }
    for (const int32_t& token : track->next_tokens) {
      rows.tokens.push_back(token);
      rows.rope.add(*track->sequence, track->cached);
      rows.slots.push_back(PageTable::slot(*track->sequence, track->cached));
      ++track->cached;
      if (!deep && &token != &track->next_tokens.back()) continue;
      rows.queries.push_back(static_cast<int64_t>(rows.tokens.size()) - 1);
      rows.kv_len.push_back(static_cast<int32_t>(track->cached));
      sequences.push_back(track->sequence);
    }
    newest.push_back(static_cast<int64_t>(rows.queries.size()) - 1);
    track->captured.clear();
    track->next_tokens.clear();
  }
  rows.pages = page_matrix(sequences, rows.kv_len);
  const DraftStep step = run(rows, draft_.fuse(join(captured)));
  for (size_t s = 0; s < tracks.size(); ++s) {
    tracks[s]->hidden = step.hidden.narrow(0, newest[s], 1);
    tracks[s]->normed = step.normed.narrow(0, newest[s], 1);
  }
}

int64_t Eagle3Drafter::backlog(const Sequence& sequence) const {
  const auto track = tracks_.find(sequence.id);
  return track == tracks_.end() ? 0 : static_cast<int64_t>(track->second.next_tokens.size());
}

int64_t Eagle3Drafter::cached_rows(const Sequence& sequence) const {
  const auto track = tracks_.find(sequence.id);
  return track == tracks_.end() ? 0 : track->second.cached;
}

// The track of each sequence that guesses, up to date; null for the others.
std::vector<Eagle3Drafter::Track*> Eagle3Drafter::ready(std::span<Sequence* const> sequences,
                                                        std::span<const GuessShape> shapes) {
  std::vector<Track*> tracks(sequences.size()), due;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const auto found = tracks_.find(sequences[s]->id);
    if (shapes[s].depth <= 0 || found == tracks_.end() || found->second.lost) continue;
    tracks[s] = &found->second;
    if (!found->second.next_tokens.empty()) due.push_back(tracks[s]);
  }
  write(due);
  for (Track*& track : tracks) {
    if (track != nullptr && !track->hidden.defined()) track = nullptr;
  }
  return tracks;
}

std::vector<Guess> Eagle3Drafter::guess(std::span<Sequence* const> sequences,
                                        std::span<const GuessShape> shapes) {
  std::vector<Guess> guesses(sequences.size());
  const std::vector<Track*> tracks = ready(sequences, shapes);
  guess_chains(tracks, shapes, guesses);
  guess_trees(tracks, shapes, guesses);
  return guesses;
}

void Eagle3Drafter::guess_chains(std::span<Track* const> tracks, std::span<const GuessShape> shapes,
                                 std::vector<Guess>& guesses) {
  std::vector<size_t> active;  // sequences whose chains still grow, as the rows of `step`
  std::vector<Tensor> parts, normed_parts;
  for (size_t s = 0; s < tracks.size(); ++s) {
    if (tracks[s] == nullptr || shapes[s].width > 1) continue;
    active.push_back(s);
    parts.push_back(tracks[s]->hidden);
    normed_parts.push_back(tracks[s]->normed);
  }
  if (active.empty()) return;
  DraftStep step{join(parts), join(normed_parts)};
  for (int64_t depth = 0;; ++depth) {
    const std::vector<int32_t> tokens = propose(step.normed);
    std::vector<size_t> deeper;
    std::vector<int64_t> kept;  // their rows
    for (size_t i = 0; i < active.size(); ++i) {
      const size_t s = active[i];
      guesses[s].tokens.push_back(tokens[i]);
      const bool room = tracks[s]->cached + depth < draft_.config().max_position;
      if (depth + 1 >= shapes[s].depth || !room) continue;
      deeper.push_back(s);
      kept.push_back(static_cast<int64_t>(i));
    }
    if (deeper.empty()) return;
    const bool all = deeper.size() == active.size();
    active = std::move(deeper);
    step = run(
        chain_rows(tracks, active, guesses, depth),
        all ? step.hidden : step.hidden.index_select(0, to_tensor(kept, at::kLong).to(device_)));
  }
}

Eagle3Drafter::Rows Eagle3Drafter::chain_rows(std::span<Track* const> tracks,
                                              std::span<const size_t> active,
                                              const std::vector<Guess>& guesses,
                                              int64_t depth) const {
  Rows rows{RopePositions(draft_.config().rope.axes())};
  std::vector<Sequence*> sequences;
  for (const size_t s : active) {
    const int64_t position = tracks[s]->cached + depth;
    sequences.push_back(tracks[s]->sequence);
    rows.queries.push_back(static_cast<int64_t>(rows.tokens.size()));
    rows.tokens.push_back(guesses[s].tokens.back());
    rows.rope.add(*tracks[s]->sequence, position);
    rows.slots.push_back(PageTable::slot(*tracks[s]->sequence, position));
    rows.kv_len.push_back(static_cast<int32_t>(position + 1));
  }
  rows.pages = page_matrix(sequences, rows.kv_len);
  return rows;
}

std::vector<int32_t> Eagle3Drafter::propose(const Tensor& normed) const {
  std::vector<int32_t> tokens = argmax_rows(draft_.logits(normed));
  for (int32_t& token : tokens) token = to_target_[token];
  return tokens;
}

}  // namespace aerie
