#include "decoding/ngram_drafter.h"

#include <algorithm>

#include "common/error.h"

namespace aerie {

namespace {

/// Tokens before `end` that agree with those at the end of the text, `most` at most.
int64_t agreement(const std::vector<int32_t>& text, int64_t end, int64_t most) {
  const int64_t known = static_cast<int64_t>(text.size());
  int64_t length = 0;
  while (length < std::min(most, end) && text[end - 1 - length] == text[known - 1 - length]) {
    ++length;
  }
  return length;
}

}  // namespace

NgramDrafter::NgramDrafter(int64_t shortest, int64_t longest)
    : shortest_(shortest), longest_(longest) {
  AERIE_CHECK(
      1 <= shortest && shortest <= longest,
      "n-grams of {} to {} tokens: the shortest has at least 1 and no more than the longest",
      shortest, longest);
}

std::vector<Guess> NgramDrafter::guess(std::span<Sequence* const> sequences,
                                       std::span<const GuessShape> shapes) {
  std::vector<Guess> guesses(sequences.size());
  for (size_t s = 0; s < sequences.size(); ++s) {
    if (shapes[s].depth <= 0) continue;
    const std::vector<int32_t>& text = sequences[s]->tokens;
    int64_t best = 0, place = 0;
    for (int64_t end = sequences[s]->known() - 1; end > 0 && best < longest_; --end) {
      const int64_t length = agreement(text, end, longest_);
      if (length > best) {
        best = length;
        place = end;
      }
    }
    if (best < shortest_) continue;
    const int64_t count = std::min(shapes[s].depth, sequences[s]->known() - place);
    guesses[s].tokens.assign(text.begin() + place, text.begin() + place + count);
  }
  return guesses;
}

}  // namespace aerie
