// Which bytes of a rendered conversation the assistant wrote. Found from the template's structure:
// the strings around an assistant turn are learnt once from probe conversations, then looked for in
// order in the real rendering. Prefixes are never rendered again (some templates rewrite earlier
// turns), and text of a user that looks like a header is stepped over because the messages are
// walked along.
#pragma once
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/json.h"
#include "data/tokenizer.h"

namespace aerie {

struct TurnMarkers {
  std::string header;  // what precedes the assistant's own text: "<|im_start|>assistant\n"
  std::string
      end_of_turn;     // "<|im_end|>"; empty if the template ends a turn with nothing of its own
  std::string forced;  // what a generation prompt adds after the header: "<think>\n"
};

/// Learns the markers by rendering probe conversations with `variables`. Throws Error, telling to
/// name them in the configuration, if the template does not show them.
TurnMarkers find_turn_markers(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                              const Json& variables);

/// The bytes of each assistant turn of `messages` in `text`: after the header (and the forced
/// text), up to and including the end of turn. Throws RowError if a turn is not there.
std::vector<ByteSpan> assistant_spans(const std::string& text, const Json& messages,
                                      const TurnMarkers& markers);

/// Spans that the template marked itself ({% generation %}), mended to the same rule: the end of
/// turn belongs to the assistant, blanks after it and the forced text do not.
std::vector<ByteSpan> mend_generation_spans(const std::string& text,
                                            const std::vector<ByteSpan>& spans,
                                            const TurnMarkers& markers);

}  // namespace aerie
