// Tokenising word by word: most words of a text were seen before, and looking one up takes a
// hundredth of the time of tokenising it again.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

namespace aerie {

struct Encoding;

/// Words and their tokens, 17 MB of them at most: a new word takes the place of one that shares its
/// set. Safe to use from several threads at once. None waits for another (an entry that is being
/// written holds nothing for the moment), and a lookup writes nothing: where it took a lock of its
/// set, two threads spent an eighth of `prepare` on the cache lines that went to and fro.
class WordCache {
 public:
  WordCache();
  /// Appends the tokens of `word`, which stands at byte `begin` of the text. False: not known.
  bool append(std::string_view word, uint32_t begin, Encoding& encoding) const;
  /// `encoding` is of the word alone. Long words, which hardly return, are not kept.
  void put(std::string_view word, const Encoding& encoding);

 private:
  static constexpr size_t kLongestWord = 52, kMostTokens = 11, kSets = 32768, kWays = 4;

  struct Word {
    uint8_t size, tokens;  // size 0: none
    char text[kLongestWord];
    uint8_t begins[kMostTokens], ends[kMostTokens];  // bytes of the word
    int32_t ids[kMostTokens];
  };
  using Image = std::array<uint64_t, sizeof(Word) / sizeof(uint64_t)>;
  static_assert(sizeof(Word) == sizeof(Image));

  /// A sequence lock: a reader copies the image and believes it if `version` was the same even
  /// number before and after.
  struct alignas(64) Entry {
    std::atomic<uint32_t> version{0};  // odd: being written
    std::array<std::atomic<uint64_t>, std::tuple_size_v<Image>> image{};

    bool read(Word& word) const;
    bool write(const Word& word);  // false: another thread is writing it
  };
  static_assert(sizeof(Entry) == 128);
  /// Small enough to stay near the core: most lookups then fetch one entry only.
  struct Set {
    std::array<std::atomic<uint32_t>, kWays> tags{};  // the entries' hashes
    std::atomic<uint32_t> writes{0};                  // the way that is given up next
  };

  std::vector<Set> sets_;
  std::vector<Entry> entries_;  // [sets][ways]
};

}  // namespace aerie
