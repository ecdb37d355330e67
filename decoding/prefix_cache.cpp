#include "decoding/prefix_cache.h"

#include <algorithm>

#include "common/error.h"

namespace aerie {

uint64_t PrefixCache::key(int64_t parent, PageTokens tokens) {
  uint64_t state = static_cast<uint64_t>(parent) * 0x9E3779B97F4A7C15ull;
  for (const int32_t token : tokens) {
    state = (state ^ static_cast<uint32_t>(token)) * 0xBF58476D1CE4E5B9ull;
    state ^= state >> 29;
  }
  return state == kNone ? 1 : state;
}

const PrefixCache::Entry* PrefixCache::find(int64_t parent, PageTokens tokens) const {
  const auto place = entries_.find(key(parent, tokens));
  if (place == entries_.end()) return nullptr;
  const Entry& entry = place->second;
  const bool same =
      entry.parent == parent && std::equal(tokens.begin(), tokens.end(), entry.tokens.begin());
  return same ? &entry : nullptr;
}

const PrefixCache::Entry* PrefixCache::insert(int64_t parent, PageTokens tokens, int32_t page) {
  AERIE_CHECK(!contains(page), "page {} is published already", page);
  const uint64_t where = key(parent, tokens);
  Entry entry{last_id_ + 1, parent, page, {}};
  std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  const auto [place, added] = entries_.emplace(where, entry);
  if (!added) return nullptr;
  ++last_id_;
  key_of_[page] = where;
  return &place->second;
}

void PrefixCache::erase(int32_t page) {
  entries_.erase(key_of_[page]);
  key_of_[page] = kNone;
}

}  // namespace aerie
