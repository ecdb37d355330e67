#include "decoding/prefix_cache.h"

#include <algorithm>
#include <bit>

#include "common/error.h"

namespace aerie {

PrefixCache::PrefixCache(int64_t pages)
    : entries_(pages), places_(std::bit_ceil(2 * static_cast<uint64_t>(pages)), kEmpty) {}

size_t PrefixCache::home_of(int64_t parent, PageTokens tokens) const {
  uint64_t state = static_cast<uint64_t>(parent) * 0x9E3779B97F4A7C15ull;
  for (const int32_t token : tokens) {
    state = (state ^ static_cast<uint32_t>(token)) * 0xBF58476D1CE4E5B9ull;
    state ^= state >> 29;
  }
  return state & (places_.size() - 1);
}

bool PrefixCache::same(const Entry& entry, int64_t parent, PageTokens tokens) const {
  return entry.parent == parent && std::equal(tokens.begin(), tokens.end(), entry.tokens.begin());
}

const PrefixCache::Entry* PrefixCache::find(int64_t parent, PageTokens tokens) const {
  for (size_t place = home_of(parent, tokens); places_[place] != kEmpty; place = after(place)) {
    const Entry& entry = entries_[places_[place]];
    if (same(entry, parent, tokens)) return &entry;
  }
  return nullptr;
}

const PrefixCache::Entry* PrefixCache::insert(int64_t parent, PageTokens tokens, int32_t page) {
  AERIE_CHECK(!contains(page), "page {} is published already", page);
  size_t place = home_of(parent, tokens);
  for (; places_[place] != kEmpty; place = after(place)) {
    AERIE_CHECK(!same(entries_[places_[place]], parent, tokens),
                "page {} is published with the tokens of page {}", page, places_[place]);
  }
  places_[place] = page;
  Entry& entry = entries_[page];
  entry.id = ++last_id_;
  entry.parent = parent;
  entry.page = page;
  std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  ++size_;
  return &entry;
}

// Closes the gap, so that whatever was placed beyond it is found from its home (Knuth 6.4,
// algorithm R).
void PrefixCache::erase(int32_t page) {
  if (!contains(page)) return;
  size_t gap = home_of(entries_[page].parent, entries_[page].tokens);
  while (places_[gap] != page) gap = after(gap);
  for (size_t place = after(gap); places_[place] != kEmpty; place = after(place)) {
    const Entry& entry = entries_[places_[place]];
    const size_t home = home_of(entry.parent, entry.tokens), mask = places_.size() - 1;
    if (((place - home) & mask) < ((place - gap) & mask)) continue;  // its home lies behind the gap
    places_[gap] = places_[place];
    gap = place;
  }
  places_[gap] = kEmpty;
  entries_[page].id = kRoot;
  --size_;
}

}  // namespace aerie
