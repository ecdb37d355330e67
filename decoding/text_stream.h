// The text of one output, a token at a time. A piece never ends inside a character and never holds
// any part of a stop string: what could still become one is kept back. The pieces joined are the
// same however the tokens came, so a stream and a whole answer cannot differ.
#pragma once
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace aerie {

struct TextRule {
  std::vector<std::string> stops;  ///< none of them empty
  bool include_stop = false;       ///< the stop string that ended the text is part of it
  bool skip_special = true;        ///< special tokens have no text
  int64_t min_tokens = 0;          ///< the text of the first so many tokens is not searched
};

class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, TextRule rule);

  /// Text that the token completed and that may be shown. Nothing once a stop string was met.
  std::string push(int32_t token);
  /// The rest, when the output ends.
  std::string finish();

  bool stopped() const { return stopped_by_ >= 0; }
  /// The stop string that ended the text.
  const std::string& stop() const { return rule_.stops.at(stopped_by_); }

 private:
  std::string take(const std::string& piece, bool last);
  size_t undecided() const;

  const Tokenizer* tokenizer_;
  TextRule rule_;
  StreamDecoder decoder_;
  std::string held_;  // not shown yet: a stop string may begin in it
  int64_t tokens_ = 0, stopped_by_ = -1;
};

}  // namespace aerie
