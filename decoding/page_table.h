// Which page of the cache belongs to whom. Rows are reserved before a forward, committed after it;
// what was not committed is rolled back by forgetting it. Complete pages may be published: a
// sequence that begins with the same tokens shares them. Pages that nobody holds any more stay
// published until their room is needed, the longest unused first.
#pragma once
#include <span>
#include <utility>
#include <vector>

#include "decoding/prefix_cache.h"
#include "decoding/sequence.h"

namespace aerie {

/// A row of the cache that has to move: from slot, to slot.
using SlotMove = std::pair<int64_t, int64_t>;

class PageTable {
 public:
  explicit PageTable(int64_t pages);

  static int64_t pages_for(int64_t tokens);
  /// Where row `index` of the sequence (counted from its first token) lies.
  static int64_t slot(const Sequence& sequence, int64_t index);

  /// Rows behind the committed ones that the sequence has pages for.
  static int64_t room(const Sequence& sequence);

  /// Makes room for `tokens` rows. False if the pool is short: nothing has changed then.
  bool reserve(Sequence& sequence, int64_t tokens);
  /// Keeps the rows `keep` (ascending, counted from `committed`) of those just written, drops the
  /// others and gives back the pages behind. Returns the moves that close gaps, in order.
  std::vector<SlotMove> commit(Sequence& sequence, std::span<const int32_t> keep);
  /// Gives all pages back; the counters return to zero.
  void release(Sequence& sequence);

  /// Gives a sequence that holds nothing the published pages that its text begins with, `pages` of
  /// them at most; their rows count as committed.
  void adopt(Sequence& sequence, int64_t pages);
  /// Published pages that the sequence's text begins with; none where media are part of it.
  int64_t matching_pages(const Sequence& sequence) const;
  /// Publishes the complete pages among the first `rows` committed rows, unless media are part of
  /// the text: their tokens do not tell them apart.
  void publish(Sequence& sequence, int64_t rows);

  int64_t total() const { return static_cast<int64_t>(holders_.size()); }
  /// Pages that can be had, published ones that nobody holds included.
  int64_t free() const { return static_cast<int64_t>(free_.size()) + idle_; }
  /// Pages that are known by their tokens.
  int64_t published() const { return cache_.size(); }
  /// Throws unless every page is held just by those of `sequences` that list it, and every other
  /// one is free exactly once.
  void check(std::span<const Sequence* const> sequences) const;

 private:
  int32_t take_page();
  void hold(int32_t page);
  void let_go(int32_t page);
  void shrink(Sequence& sequence, int64_t pages);
  void link_idle(int32_t page);
  void unlink_idle(int32_t page);

  std::vector<int32_t> free_;     // the last one is given out next
  std::vector<int32_t> holders_;  // by page: sequences that list it
  PrefixCache cache_;
  // Published pages without holder, a ring through entry total(): the first one is reused first.
  std::vector<int32_t> next_, previous_;
  int64_t idle_ = 0;
};

}  // namespace aerie
