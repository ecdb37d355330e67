// Conversations to token ids with the mask of what the assistant wrote.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/media_processor.h"
#include "data/row_encoder.h"
#include "data/tokenizer.h"
#include "data/turns.h"

namespace aerie {

struct ChatOptions {
  bool last_turn_only = false;   // only the last assistant turn is supervised
  bool keep_reasoning = true;    // false: <think>...</think> and reasoning fields are left out
  std::string assistant_header;  // "": found from the template
  std::string end_of_turn;       // "": found from the template
  std::string variables = "{}";  // JSON object that the template sees ("enable_thinking", ...)
};

/// Keeps references to tokenizer, template and processors.
class ChatEncoder : public RowEncoder {
 public:
  /// Throws Error if the template hides its structure (see find_turn_markers).
  ChatEncoder(const Tokenizer& tokenizer, const ChatTemplate& chat_template, ChatOptions options,
              const MediaProcessors& processors = no_media());

  /// A whole conversation. A token belongs to a turn if any of its bytes does. Throws RowError:
  /// refused by the template, no or an empty assistant turn, ids out of range, media that the
  /// target does not take or that cannot be read.
  EncodedChat encode(Conversation conversation) const override;
  /// `messages` rendered with the generation prompt: where the model continues. Throws Error with
  /// the template's message if it refuses.
  MediaTokens encode_prompt(const Json& messages, const Json& variables) const;

  const TurnMarkers& markers() const { return markers_; }
  std::vector<int32_t> ending_ids() const override;
  std::string decode(std::span<const int32_t> ids) const override;
  std::string fingerprint() const override;

 private:
  Json prepare(Json messages) const;
  void expand_media(const Json& messages, EncodedChat& encoded) const;
  std::vector<ByteSpan> spans_of(const RenderedChat& chat, const Json& messages) const;

  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
  const MediaProcessors& processors_;
  ChatOptions options_;
  Json variables_;
  TurnMarkers markers_;
};

/// The ids of a rendered prompt of `messages`, with its media placed. Throws RowError as above.
MediaTokens encode_prompt_text(const Tokenizer& tokenizer, const MediaProcessors& processors,
                               const std::string& text, const Json& messages);

/// Marks in `encoded` (offsets in bytes of a text) the tokens that touch a span.
void mark_tokens(const Encoding& encoding, const std::vector<ByteSpan>& spans,
                 EncodedChat& encoded);

}  // namespace aerie
