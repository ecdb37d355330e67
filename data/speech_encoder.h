// Rows of a target that speaks, as ids: [start | prompt_text, text | turn | prompt_speech, speech |
// end]. Speech ids stand as they are; text ids follow behind all of them, so that one row of ids
// holds both streams.
#pragma once
#include <filesystem>
#include <optional>

#include "data/row_encoder.h"
#include "data/tokenizer.h"

namespace aerie {

/// The ids of a target that speaks.
struct SpeechIds {
  int64_t codes = 0;       // of speech: [0, codes)
  int64_t vocab = 0;       // ids that it writes: codes, then special ones
  int64_t text_vocab = 0;  // text id i is vocab + i

  int32_t start() const { return static_cast<int32_t>(codes); }
  int32_t end() const { return static_cast<int32_t>(codes) + 1; }
  int32_t turn() const { return static_cast<int32_t>(codes) + 2; }  // text ends, speech begins
};

/// From DIR/config.json ("speech_token_size", "vocab_size", "text_vocab_size"); nothing where the
/// target writes text.
std::optional<SpeechIds> read_speech_ids(const std::filesystem::path& model_dir);

class SpeechEncoder : public RowEncoder {
 public:
  /// Keeps a reference. Throws Error where the tokenizer has more ids than the text.
  SpeechEncoder(const Tokenizer& tokenizer, const SpeechIds& ids);

  /// Also of rows that are ids already. Throws RowError for a row that asks for no speech or holds
  /// none, and for ids that are no codes.
  EncodedChat encode(Conversation conversation) const override;
  /// Up to where the target speaks. Throws RowError.
  std::vector<int32_t> encode_prompt(const Conversation& conversation) const;
  /// The codes of an output: without the id that ended it.
  std::vector<int32_t> codes_of(std::span<const int32_t> output) const;
  std::vector<int32_t> ending_ids() const override { return {ids_.end()}; }
  /// Text as text, speech ids as numbers.
  std::string decode(std::span<const int32_t> ids) const override;
  std::string fingerprint() const override;

 private:
  EncodedChat encode_ids(const Conversation& conversation) const;
  std::vector<int32_t> prompt_of(const SpeechRow& row) const;
  void add_text(const std::string& text, std::vector<int32_t>& ids) const;
  void add_speech(const std::vector<int32_t>& codes, std::vector<int32_t>& ids) const;

  const Tokenizer& tokenizer_;
  SpeechIds ids_;
};

}  // namespace aerie
