#include "data/row_encoder.h"

#include <algorithm>

namespace aerie {
namespace {

/// Turns of a mask that came with the row: its runs of ones.
std::vector<std::array<int32_t, 2>> runs_of(const std::vector<uint8_t>& mask) {
  std::vector<std::array<int32_t, 2>> runs;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (!mask[i]) continue;
    const auto at = static_cast<int32_t>(i);
    if (i > 0 && mask[i - 1]) {
      runs.back()[1] = at + 1;
    } else {
      runs.push_back({at, at + 1});
    }
  }
  return runs;
}

}  // namespace

EncodedChat encode_tokenised(const Conversation& conversation, int64_t vocab, bool last_turn_only) {
  for (const int32_t id : conversation.input_ids)
    if (id < 0 || id >= vocab)
      throw RowError("token id out of range", fmt::format("{} of a vocabulary of {}", id, vocab));
  EncodedChat encoded;
  encoded.ids = conversation.input_ids;
  encoded.assistant = conversation.loss_mask;
  encoded.turns = runs_of(encoded.assistant);
  if (last_turn_only && encoded.turns.size() > 1) {
    encoded.turns.erase(encoded.turns.begin(), encoded.turns.end() - 1);
    std::fill_n(encoded.assistant.begin(), encoded.turns[0][0], uint8_t{0});
  }
  return encoded;
}

}  // namespace aerie
