#include "data/word_cache.h"

#include <bit>

#include "data/tokenizer.h"

namespace aerie {
namespace {

/// What tells the words of a set apart.
uint32_t tag_of(size_t hash) { return static_cast<uint32_t>(hash >> 32); }

}  // namespace

WordCache::WordCache() : sets_(kSets), entries_(kSets * kWays) {}

bool WordCache::Entry::read(Word& word) const {
  const uint32_t before = version.load(std::memory_order_acquire);
  Image copy;
  for (size_t i = 0; i < copy.size(); ++i) copy[i] = image[i].load(std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_acquire);
  word = std::bit_cast<Word>(copy);
  return before % 2 == 0 && version.load(std::memory_order_relaxed) == before;
}

bool WordCache::Entry::write(const Word& word) {
  uint32_t before = version.load(std::memory_order_relaxed);
  if (before % 2 != 0 ||
      !version.compare_exchange_strong(before, before + 1, std::memory_order_acquire))
    return false;
  std::atomic_thread_fence(std::memory_order_release);
  const auto copy = std::bit_cast<Image>(word);
  for (size_t i = 0; i < copy.size(); ++i) image[i].store(copy[i], std::memory_order_relaxed);
  version.store(before + 2, std::memory_order_release);
  return true;
}

bool WordCache::append(std::string_view word, uint32_t begin, Encoding& encoding) const {
  if (word.empty() || word.size() > kLongestWord) return false;
  const size_t hash = std::hash<std::string_view>{}(word), set = hash % kSets;
  for (size_t way = 0; way < kWays; ++way) {
    if (sets_[set].tags[way].load(std::memory_order_relaxed) != tag_of(hash)) continue;
    Word known;  // the tag is a hint: the text decides
    if (!entries_[set * kWays + way].read(known) ||
        std::string_view(known.text, known.size) != word)
      continue;
    for (size_t i = 0; i < known.tokens; ++i) {
      encoding.ids.push_back(known.ids[i]);
      encoding.offsets.push_back({begin + known.begins[i], begin + known.ends[i]});
    }
    return true;
  }
  return false;
}

void WordCache::put(std::string_view word, const Encoding& encoding) {
  const size_t tokens = encoding.ids.size();
  if (word.empty() || word.size() > kLongestWord || tokens > kMostTokens) return;
  Word fresh{static_cast<uint8_t>(word.size()), static_cast<uint8_t>(tokens), {}, {}, {}, {}};
  word.copy(fresh.text, word.size());
  for (size_t i = 0; i < tokens; ++i) {
    fresh.ids[i] = encoding.ids[i];
    fresh.begins[i] = static_cast<uint8_t>(encoding.offsets[i][0]);
    fresh.ends[i] = static_cast<uint8_t>(encoding.offsets[i][1]);
  }
  const size_t hash = std::hash<std::string_view>{}(word), set = hash % kSets;
  const size_t way = sets_[set].writes.fetch_add(1, std::memory_order_relaxed) % kWays;
  if (entries_[set * kWays + way].write(fresh))
    sets_[set].tags[way].store(tag_of(hash), std::memory_order_relaxed);
}

}  // namespace aerie
