// Which page of the cache belongs to whom. Rows are reserved before a forward, committed after it;
// what was not committed is rolled back by forgetting it.
#pragma once
#include <span>
#include <utility>
#include <vector>

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

  /// Makes room for `tokens` rows. False if the pool is short: nothing has changed then.
  bool reserve(Sequence& sequence, int64_t tokens);
  /// Keeps the rows `keep` (ascending, counted from `committed`) of those just written, drops the
  /// others and gives back the pages behind. Returns the moves that close gaps, in order.
  std::vector<SlotMove> commit(Sequence& sequence, std::span<const int32_t> keep);
  /// Gives all pages back; the counters return to zero.
  void release(Sequence& sequence);

  int64_t total() const { return static_cast<int64_t>(owner_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  /// Throws unless every page is either free or owned by exactly one of `sequences`.
  void check(std::span<const Sequence* const> sequences) const;

 private:
  void shrink(Sequence& sequence, int64_t pages);

  static constexpr int64_t kFree = -1;
  std::vector<int32_t> free_;   // the last one is given out next
  std::vector<int64_t> owner_;  // sequence id, or kFree
};

}  // namespace aerie
