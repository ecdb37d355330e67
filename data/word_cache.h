// Tokenising word by word: most words of a text were seen before, and looking one up takes a
// hundredth of the time of tokenising it again.
#pragma once
#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

namespace aerie {

struct Encoding;

/// Whether a tokenizer (its tokenizer.json) gives the same ids when a text is cut where next_word
/// cuts it and the pieces are encoded one by one. True of byte-level BPE whose pre-tokenizer is
/// known to begin a piece at every blank that follows a visible character (GPT-2, Llama 3, Qwen and
/// what is built like them), where no added token reaches over such a place. Anything else: false.
bool encodes_words_apart(std::string_view tokenizer_json);

/// Where the first word of `text` ends: before the first blank (U+0020) that follows a visible
/// ASCII character. What follows is in no match of the pre-tokenizers' patterns together with what
/// precedes: each lets a blank stand at a match's begin or in a run of white space only.
size_t next_word(std::string_view text);

/// Words and their tokens, 19 MB of them at most: a new word takes the place of one that shares its
/// set. Safe to use from several threads at once; none waits for another (a set that another thread
/// is at holds nothing for the moment). A lookup touches one or two cache lines: chained tables
/// took a fifth of the time of `prepare` with their misses.
class WordCache {
 public:
  WordCache();
  /// Appends the tokens of `word`, which stands at byte `begin` of the text. False: not known.
  bool append(std::string_view word, uint32_t begin, Encoding& encoding);
  /// `encoding` is of the word alone. Long words, which hardly return, are not kept.
  void put(std::string_view word, const Encoding& encoding);

 private:
  static constexpr size_t kLongestWord = 54, kMostTokens = 11, kSets = 32768, kWays = 4;

  struct alignas(64) Entry {
    uint32_t hash;
    uint8_t size, tokens;  // size 0: empty
    char word[kLongestWord];
    uint8_t begins[kMostTokens], ends[kMostTokens];  // bytes of the word
    int32_t ids[kMostTokens];

    bool is(std::string_view text, uint32_t hash_of_text) const;
  };
  static_assert(sizeof(Entry) == 128);
  struct Set {
    std::atomic<bool> taken{false};
    uint8_t next = 0;  // the way that is given up next
  };

  std::vector<Set> sets_;
  std::vector<Entry> entries_;  // [sets][ways]
};

}  // namespace aerie
