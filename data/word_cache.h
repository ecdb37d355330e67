// Tokenising word by word: most words of a text were seen before, and looking one up takes a
// hundredth of the time of tokenising it again.
#pragma once
#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
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

/// Words and their tokens. Safe to use from several threads at once; holds a bounded number of
/// words, and forgets some where it is full.
class WordCache {
 public:
  /// Appends the tokens of `word`, which stands at byte `begin` of the text. False: not known.
  bool append(std::string_view word, uint32_t begin, Encoding& encoding);
  /// `encoding` is of the word alone.
  void put(std::string_view word, const Encoding& encoding);

 private:
  struct Token {
    int32_t id;
    uint16_t begin, end;  // bytes of the word
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  /// A lock each, so that threads seldom wait for each other.
  struct alignas(64) Shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::vector<Token>, Hash, std::equal_to<>> words;
  };
  Shard& shard_of(std::string_view word) { return shards_[Hash{}(word) / 64 % shards_.size()]; }

  std::array<Shard, 64> shards_;
};

}  // namespace aerie
