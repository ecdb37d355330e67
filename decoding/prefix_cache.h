// Pages that hold the beginnings of texts, found again by their tokens. A page is known by the page
// before it and its own tokens, which are compared, not only hashed: two texts are never confused.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ragged.h"

namespace aerie {

/// Allocates nothing after it was made: pages are published and forgotten in the midst of decoding.
class PrefixCache {
 public:
  using PageTokens = std::span<const int32_t, KvPool::kPageSize>;
  struct Entry {
    int64_t id = kRoot, parent = kRoot;  ///< of this page, and of the page before it (kRoot: none)
    int32_t page = -1;
    std::array<int32_t, KvPool::kPageSize> tokens{};
  };
  static constexpr int64_t kRoot = 0;

  explicit PrefixCache(int64_t pages);

  /// The page that follows `parent` with these tokens; null if there is none.
  const Entry* find(int64_t parent, PageTokens tokens) const;
  /// Makes a page known. Throws Error if it is known already, or another one by these tokens.
  const Entry* insert(int64_t parent, PageTokens tokens, int32_t page);
  bool contains(int32_t page) const { return entries_[page].id != kRoot; }
  /// The page will be overwritten. Pages behind it can no longer be found.
  void erase(int32_t page);
  int64_t size() const { return size_; }

 private:
  static constexpr int32_t kEmpty = -1;
  size_t home_of(int64_t parent, PageTokens tokens) const;
  size_t after(size_t place) const { return (place + 1) & (places_.size() - 1); }
  bool same(const Entry& entry, int64_t parent, PageTokens tokens) const;

  int64_t last_id_ = kRoot, size_ = 0;
  std::vector<Entry> entries_;   // by page; kRoot: not known
  std::vector<int32_t> places_;  // a hash table of pages with linear probing, at most half full
};

}  // namespace aerie
