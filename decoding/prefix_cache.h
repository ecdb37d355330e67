// Pages that hold the beginnings of texts, found again by their tokens. A page is known by the page
// before it and its own tokens, which are compared, not only hashed: two texts are never confused.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/ragged.h"

namespace aerie {

class PrefixCache {
 public:
  using PageTokens = std::span<const int32_t, KvPool::kPageSize>;
  struct Entry {
    int64_t id, parent;  ///< of this page, and of the page before it (kRoot: none)
    int32_t page;
    std::array<int32_t, KvPool::kPageSize> tokens;
  };
  static constexpr int64_t kRoot = 0;

  explicit PrefixCache(int64_t pages) : key_of_(pages, kNone) {}

  /// The page that follows `parent` with these tokens; null if there is none.
  const Entry* find(int64_t parent, PageTokens tokens) const;
  /// Makes a page known. Null, and nothing changes, if its place in the table is taken by others.
  const Entry* insert(int64_t parent, PageTokens tokens, int32_t page);
  bool contains(int32_t page) const { return key_of_[page] != kNone; }
  /// The page will be overwritten. Pages behind it can no longer be found.
  void erase(int32_t page);
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  static constexpr uint64_t kNone = 0;
  static uint64_t key(int64_t parent, PageTokens tokens);

  int64_t last_id_ = kRoot;
  std::unordered_map<uint64_t, Entry> entries_;
  std::vector<uint64_t> key_of_;  // by page
};

}  // namespace aerie
