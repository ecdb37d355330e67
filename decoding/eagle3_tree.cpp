// The EAGLE-3 drafter's trees. Each node of a level that is followed has pages of its own for the
// end of its path, copied from its parent's, so that to the draft it is a chain like any other; the
// context before is shared.
#include <algorithm>

#include "decoding/batch.h"
#include "decoding/eagle3_drafter.h"
#include "decoding/page_table.h"

namespace aerie {

namespace {

constexpr int64_t kPage = KvPool::kPageSize;

/// Pages that hold the end of a path: at most a page less one of context, then a row a level.
int64_t tail_pages(int64_t depth) { return PageTable::pages_for(kPage - 1 + depth); }

Tensor slot_tensor(const std::vector<int64_t>& slots, at::Device device) {
  return to_tensor(slots, at::kLong).to(device);
}

}  // namespace

void Eagle3Drafter::guess_trees(std::span<Track* const> tracks, std::span<const GuessShape> shapes,
                                std::vector<Guess>& guesses) {
  std::vector<Branching> trees;
  BranchPages room;
  const auto wanted = [&](size_t s) { return tracks[s] != nullptr && shapes[s].width > 1; };
  for (size_t s = 0; s < tracks.size(); ++s) {
    if (!wanted(s)) continue;
    room.width = std::max(room.width, shapes[s].width);
    room.tail = std::max(room.tail, tail_pages(shapes[s].depth));
  }
  const auto finish = [&] {
    if (!trees.empty()) grow_trees(trees, room);
    for (const Branching& each : trees) guesses[each.index] = each.tree.best();
    trees.clear();
  };
  const int64_t at_a_time =
      std::max<int64_t>(1, (pool_.pages - shared_pages_) / (room.width * room.tail));
  for (size_t s = 0; s < tracks.size(); ++s) {
    if (!wanted(s)) continue;
    if (static_cast<int64_t>(trees.size()) == at_a_time) finish();
    trees.push_back({s, tracks[s], GuessTree(shapes[s])});
  }
  finish();
}

void Eagle3Drafter::grow_trees(std::vector<Branching>& trees, const BranchPages& room) {
  std::vector<Tensor> hidden, normed;
  for (size_t t = 0; t < trees.size(); ++t) {
    trees[t].first_row = static_cast<int64_t>(t);
    hidden.push_back(trees[t].track->hidden);
    normed.push_back(trees[t].track->normed);
  }
  DraftStep step{at::cat(hidden), at::cat(normed)};
  while (step.hidden.size(0) > 0) {
    std::vector<TopTokens> top = top_tokens(draft_.logits(step.normed), room.width);
    for (TopTokens& each : top) {
      for (int32_t& id : each.ids) id = to_target_[id];
    }
    for (Branching& each : trees) {
      if (each.rows > 0) {
        each.tree.grow(std::span(top).subspan(each.first_row, static_cast<size_t>(each.rows)));
      }
    }
    step = feed_frontiers(trees, room, step);
  }
}

int64_t Eagle3Drafter::branch_slot(const BranchPages& room, size_t tree, int64_t branch,
                                   int64_t row) const {
  const int64_t first = (static_cast<int64_t>(tree) * room.width + branch) * room.tail;
  return (shared_pages_ + first) * kPage + row;  // a branch's pages are neighbours
}

// One draft row for each node of the frontiers of the trees that still grow; `before` holds the
// outputs of their parents.
DraftStep Eagle3Drafter::feed_frontiers(std::vector<Branching>& trees, const BranchPages& room,
                                        const DraftStep& before) {
  Rows rows{RopePositions(draft_.config().rope.axes())};
  std::vector<int64_t> parents, from, to;
  std::vector<std::vector<int32_t>> pages;
  for (size_t t = 0; t < trees.size(); ++t) {
    Branching& each = trees[t];
    const Sequence& sequence = *each.track->sequence;
    const int64_t level = each.tree.levels(), position = each.track->cached + level - 1;
    const bool grows =
        each.rows > 0 && each.tree.growing() && position < draft_.config().max_position;
    const int64_t parent_row = each.first_row;
    each.first_row = static_cast<int64_t>(rows.tokens.size());
    each.rows = grows ? each.tree.frontier() : 0;
    const int64_t tail_page = each.track->cached / kPage, offset = each.track->cached % kPage;
    for (int64_t branch = 0; branch < each.rows; ++branch) {
      const int64_t origin = each.tree.origin(branch);
      for (int64_t row = 0; row < offset + level - 1; ++row) {
        from.push_back(level == 1 ? PageTable::slot(sequence, tail_page * kPage + row)
                                  : branch_slot(room, t, origin, row));
        to.push_back(branch_slot(room, t, branch, row));
      }
      parents.push_back(parent_row + origin);
      rows.queries.push_back(static_cast<int64_t>(rows.tokens.size()));
      rows.tokens.push_back(each.tree.token(branch));
      rows.rope.add(sequence, position);
      rows.slots.push_back(branch_slot(room, t, branch, offset + level - 1));
      rows.kv_len.push_back(static_cast<int32_t>(position + 1));
      pages.emplace_back(sequence.pages.begin(), sequence.pages.begin() + tail_page);
      for (int64_t page = 0; page < room.tail; ++page) {
        pages.back().push_back(
            static_cast<int32_t>(branch_slot(room, t, branch, 0) / kPage + page));
      }
    }
  }
  if (rows.tokens.empty()) return {at::empty({0, 1}), {}};
  if (!from.empty()) {
    ops::kv_move_(pool_, slot_tensor(from, device_), slot_tensor(to, device_));
  }
  rows.pages = page_lists(pages);
  return run(rows, before.hidden.index_select(0, slot_tensor(parents, device_)));
}

}  // namespace aerie
