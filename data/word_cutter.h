// Where a text may be cut into words that the tokenizer encodes one by one.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aerie {

/// Cuts a text where no match of its tokenizer's patterns reaches over the cut, whatever follows:
/// - before a blank (U+0020) that follows no white space;
/// - before a blank that a visible ASCII character follows: the blank goes with that one, and the
///   white space before it is one match with or without them;
/// - before a visible ASCII character that follows a lone line feed: longer white space may be one
///   match or two, depending on whether anything follows it;
/// - before and after an added token, which the tokenizer takes out of a text first.
class WordCutter {
 public:
  /// `added_tokens`: those that are looked for before the text is normalised.
  explicit WordCutter(std::vector<std::string> added_tokens);
  /// Where the first word of `text` ends. `text` is whole, or what earlier cuts left of it.
  size_t next(std::string_view text) const;

 private:
  /// Length of the longest added token that `text` begins with; 0: none.
  size_t token_at(std::string_view text) const;
  /// Whether `text` begins with a visible ASCII character that is no added token's.
  bool begins_word(std::string_view text) const;
  bool cuts_at(std::string_view text, size_t at) const;

  std::vector<std::string> tokens_;  // longest first
  std::array<bool, 256> begins_{};   // whether a token begins with this byte
};

/// The cutter for a tokenizer (its tokenizer.json) that gives the same ids for a text and for its
/// words, one after the other: byte-level BPE with a pre-tokenizer of GPT-2, Llama 3, Qwen or what
/// is built like them, where no added token takes in what stands beside it. Nothing for any other.
std::optional<WordCutter> find_word_cutter(std::string_view tokenizer_json);

}  // namespace aerie
