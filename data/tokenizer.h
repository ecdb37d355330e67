// Hugging Face tokenizers: ids equal to the Python tokenizer's, with the bytes that each id came
// from.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/word_cutter.h"

struct HfTokenizer;

namespace aerie {

class WordCache;

struct Encoding {
  std::vector<int32_t> ids;
  std::vector<std::array<uint32_t, 2>> offsets;  // bytes [begin, end) of the text, blanks included
};

struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;
};

/// Safe to use from several threads at once.
class Tokenizer {
 public:
  /// `path`: a tokenizer.json, or a model directory that has one. Throws Error naming the file.
  explicit Tokenizer(const std::filesystem::path& path);
  ~Tokenizer();

  /// Special tokens written out in `text` become their ids, as in transformers. `add_special` adds
  /// what the tokenizer's post-processor adds (often BOS); rendered chat templates want false.
  /// Throws Error if `text` is not UTF-8.
  Encoding encode(std::string_view text, bool add_special = false) const;
  /// The same, never word by word.
  Encoding encode_whole(std::string_view text, bool add_special) const;
  /// The same for many texts, on `threads` threads; results in order.
  std::vector<Encoding> encode_batch(std::span<const std::string> texts, bool add_special,
                                     int threads) const;
  /// Bytes that are not UTF-8 become U+FFFD.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  /// One more than the largest id, added tokens included. A model's embedding may have more rows
  /// (padding).
  int64_t vocab_size() const { return vocab_size_; }
  std::optional<int32_t> token_to_id(std::string_view token) const;
  /// The token as the vocabulary spells it (byte-level tokens are not plain text). Throws Error on
  /// an unknown id.
  std::string id_to_token(int32_t id) const;
  /// The bytes that the token stands for, be they UTF-8 or not (byte-level and byte-fallback
  /// vocabularies have tokens inside characters). Throws Error on an unknown id.
  std::string token_bytes(int32_t id) const;
  /// By ascending id.
  const std::vector<AddedToken>& added_tokens() const { return added_tokens_; }
  bool is_special(int32_t id) const;
  /// Whether texts are encoded word by word.
  bool word_by_word() const { return cutter_.has_value(); }
  /// Hash of tokenizer.json.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  struct Release {
    void operator()(HfTokenizer* handle) const;
  };
  std::unique_ptr<HfTokenizer, Release> handle_;
  std::optional<WordCutter> cutter_;  // nothing: texts are encoded whole
  std::unique_ptr<WordCache> words_;  // null likewise
  std::vector<AddedToken> added_tokens_;
  std::string fingerprint_;
  int64_t vocab_size_ = 0;
};

/// Text of a growing sequence, a piece at a time; no piece ever ends inside a character. The state
/// is plain data: copy it to fork or roll back a sequence. All pieces and the last one joined equal
/// Tokenizer::decode of all ids, whenever decoding is local (byte-level, byte-fallback and
/// metaspace tokenizers are).
class StreamDecoder {
 public:
  explicit StreamDecoder(bool skip_special) : skip_special_(skip_special) {}
  /// The text that `id` completed; empty while a character is incomplete.
  std::string push(const Tokenizer& tokenizer, int32_t id);
  /// What is still held back (an incomplete character as U+FFFD).
  std::string finish(const Tokenizer& tokenizer);

 private:
  std::vector<int32_t>
      window_;        // the ids whose text was given out last, then those still held back
  size_t given_ = 0;  // how many of them were given out
  bool skip_special_;
};

}  // namespace aerie
