#include "decoding/eagle3_drafter.h"

#include <cmath>
#include <numeric>

#include "common/error.h"
#include "decoding/batch.h"
#include "decoding/page_table.h"
#include "decoding/sampler.h"

namespace aerie {

namespace {

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

void Eagle3Drafter::attach(int64_t pages) {
  const DraftConfig& config = draft_.config();
  pool_ =
      ops::make_kv_pool(config.layers, pages, config.kv_heads, config.head_dim, dtype_, device_);
  states_.clear();
}

DraftStep Eagle3Drafter::run(const Rows& rows, const Tensor& hidden) {
  RaggedLayout layout;
  std::vector<int64_t> starts(rows.queries.size() + 1);
  std::iota(starts.begin(), starts.end(), 0);
  layout.q_start = to_tensor(starts, at::kInt).to(device_);
  layout.kv_len = to_tensor(rows.kv_len, at::kInt).to(device_);
  layout.pages = page_matrix(rows.sequences, rows.kv_len).to(device_);
  layout.max_q = 1;
  for (const int32_t length : rows.kv_len) layout.max_kv = std::max<int64_t>(layout.max_kv, length);
  const Tensor slots = to_tensor(rows.slots, at::kLong).to(device_);
  int64_t layer = 0;
  const Attend attend = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    ops::kv_append_(pool_, layer, k, v, slots);
    const int64_t own = layer++;
    return q.size(0) == 0 ? q : ops::ragged_attention(q, pool_, own, layout, scale_);
  };
  const bool all = rows.queries.size() == rows.tokens.size();
  const Tensor queries = all ? Tensor() : to_tensor(rows.queries, at::kLong).to(device_);
  return draft_.step(to_tensor(rows.tokens, at::kLong).to(device_), hidden,
                     to_tensor(rows.positions, at::kLong).to(device_), queries, attend);
}

void Eagle3Drafter::observe(std::span<const Observation> observations) {
  // The last layer's queries of older rows serve nobody; those of lower layers feed its keys.
  const bool deep = draft_.config().layers > 1;
  Rows rows;
  std::vector<Tensor> captured;
  std::vector<int64_t> newest;  // among the queries
  for (const Observation& seen : observations) {
    const int64_t count = static_cast<int64_t>(seen.next_tokens.size());
    states_.erase(seen.sequence->id);
    // Beyond the draft's own context there is nothing to guess with: decoding goes on without.
    if (seen.first_position + count > draft_.config().max_position) continue;
    captured.push_back(seen.captured);
    for (int64_t i = 0; i < count; ++i) {
      rows.tokens.push_back(seen.next_tokens[i]);
      rows.positions.push_back(seen.first_position + i);
      rows.slots.push_back(PageTable::slot(*seen.sequence, seen.first_position + i));
      const bool last = i + 1 == count && seen.guess_next;
      if (!last && !deep) continue;
      if (last) newest.push_back(static_cast<int64_t>(rows.queries.size()));
      rows.queries.push_back(static_cast<int64_t>(rows.tokens.size()) - 1);
      rows.sequences.push_back(seen.sequence);
      rows.kv_len.push_back(static_cast<int32_t>(rows.positions.back() + 1));
    }
  }
  if (captured.empty()) return;
  const DraftStep step = run(rows, draft_.fuse(join(captured)));
  for (const int64_t row : newest) {
    states_[rows.sequences[row]->id] = {rows.kv_len[row] - 1, step.hidden.narrow(0, row, 1),
                                        step.normed.narrow(0, row, 1)};
  }
}

std::vector<std::vector<int32_t>> Eagle3Drafter::guess(std::span<Sequence* const> sequences,
                                                       std::span<const int64_t> depths) {
  std::vector<std::vector<int32_t>> guesses(sequences.size());
  std::vector<size_t> active;
  std::vector<Tensor> parts, normed_parts;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const auto state = states_.find(sequences[s]->id);
    if (depths[s] <= 0 || state == states_.end()) continue;
    active.push_back(s);
    parts.push_back(state->second.hidden);
    normed_parts.push_back(state->second.normed);
  }
  if (active.empty()) return guesses;
  DraftStep step{join(parts), join(normed_parts)};
  for (int64_t depth = 0;; ++depth) {
    const std::vector<int32_t> tokens = propose(step.normed);
    Rows rows;
    std::vector<size_t> deeper;
    std::vector<int64_t> kept;
    for (size_t i = 0; i < active.size(); ++i) {
      Sequence* sequence = sequences[active[i]];
      guesses[active[i]].push_back(tokens[i]);
      const int64_t position = states_.at(sequence->id).position + depth + 1;
      if (depth + 1 >= depths[active[i]] || position >= draft_.config().max_position) continue;
      deeper.push_back(active[i]);
      kept.push_back(static_cast<int64_t>(i));
      rows.queries.push_back(static_cast<int64_t>(rows.tokens.size()));
      rows.tokens.push_back(tokens[i]);
      rows.positions.push_back(position);
      rows.slots.push_back(PageTable::slot(*sequence, position));
      rows.sequences.push_back(sequence);
      rows.kv_len.push_back(static_cast<int32_t>(position + 1));
    }
    if (deeper.empty()) return guesses;
    Tensor hidden = step.hidden;
    if (deeper.size() != active.size()) {
      hidden = hidden.index_select(0, to_tensor(kept, at::kLong).to(device_));
    }
    active = std::move(deeper);
    step = run(rows, hidden);
  }
}

std::vector<int32_t> Eagle3Drafter::propose(const Tensor& normed) const {
  std::vector<int32_t> tokens = argmax_rows(draft_.logits(normed));
  for (int32_t& token : tokens) token = to_target_[token];
  return tokens;
}

}  // namespace aerie
