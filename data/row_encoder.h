// Rows to token ids with the mask of what the target wrote, whatever the target writes.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/conversation.h"
#include "data/media.h"

namespace aerie {

struct EncodedChat {
  std::vector<int32_t> ids;
  std::vector<uint8_t> assistant;  // 1: the assistant wrote this token (end of turn included)
  std::vector<std::array<int32_t, 2>> turns;  // tokens [begin, end) of each supervised turn
  std::string text;                           // empty for rows that came tokenised
  std::vector<MediaSpan> media;               // what its placeholders stand for
};

/// Safe to use from several threads at once.
class RowEncoder {
 public:
  virtual ~RowEncoder() = default;
  /// A whole row. Throws RowError.
  virtual EncodedChat encode(Conversation conversation) const = 0;
  /// Special ids that end an answer: a draft must be able to propose them.
  virtual std::vector<int32_t> ending_ids() const = 0;
  /// Ids as a person reads them.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;
  /// Hash of all that decides ids and mask.
  virtual std::string fingerprint() const = 0;
};

/// A row that came as ids of a vocabulary of `vocab`. Throws RowError for one outside it.
EncodedChat encode_tokenised(const Conversation& conversation, int64_t vocab, bool last_turn_only);

}  // namespace aerie
