#include "decoding/text_stream.h"

#include <algorithm>
#include <utility>

#include "common/error.h"

namespace aerie {

TextStream::TextStream(const Tokenizer& tokenizer, TextRule rule)
    : tokenizer_(&tokenizer), rule_(std::move(rule)), decoder_(rule_.skip_special) {
  for (const std::string& stop : rule_.stops) AERIE_CHECK(!stop.empty(), "a stop string is empty");
}

std::string TextStream::push(int32_t token) {
  if (stopped()) return {};
  std::string piece = decoder_.push(*tokenizer_, token);
  if (++tokens_ <= rule_.min_tokens) return piece;
  return take(piece, false);
}

std::string TextStream::finish() {
  return stopped() ? std::string() : take(decoder_.finish(*tokenizer_), true);
}

std::string TextStream::take(const std::string& piece, bool last) {
  held_ += piece;
  size_t first = std::string::npos;
  for (size_t i = 0; i < rule_.stops.size(); ++i) {
    const size_t at = held_.find(rule_.stops[i]);
    if (at < first) {
      first = at;
      stopped_by_ = static_cast<int64_t>(i);
    }
  }
  if (stopped()) {
    held_.resize(first + (rule_.include_stop ? stop().size() : 0));
    return std::exchange(held_, {});
  }
  const size_t keep = last ? 0 : undecided();
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return shown;
}

// Length of the longest end of the held text that begins a stop string. Everything before an
// earlier such end was shown already, so this looks at a stop string's length at most.
size_t TextStream::undecided() const {
  size_t longest = 0;
  for (const std::string& stop : rule_.stops) {
    for (size_t length = std::min(held_.size(), stop.size() - 1); length > longest; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) longest = length;
    }
  }
  return longest;
}

}  // namespace aerie
