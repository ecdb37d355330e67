// One row of input, whatever its form, as chat messages.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "data/json.h"
#include "data/speech_row.h"

namespace aerie {

/// A row that cannot be used. `reason` is one of a few fixed phrases, so that rows can be counted
/// by it; what() adds the particulars.
class RowError : public Error {
 public:
  RowError(const std::string& reason, const std::string& detail)
      : Error(detail.empty() ? reason : reason + ": " + detail), reason_(reason) {}
  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

struct Conversation {
  std::string id;      // empty if the row has none
  std::string domain;  // what kind of text the row says it is ("domain" or "category"), or empty
  /// Objects with "role" (system, user, assistant, tool), "content" (a string, or parts where some
  /// are not text) and the row's other keys ("tool_calls", "reasoning_content"...).
  Json messages = Json::array();
  Json variables = Json::object();  // for the template: "tools" where the row has them
  /// Set instead of messages where the row is tokenised already; of equal length.
  std::vector<int32_t> input_ids;
  std::vector<uint8_t> loss_mask;
  /// Set instead of messages where speech is asked for.
  std::optional<SpeechRow> speech;

  bool tokenised() const { return !input_ids.empty(); }
};

/// `row`: the JSON of {"conversations": [{"role"|"from", "content"|"value"}...]}, {"messages"},
/// {"prompt", "response"}, {"prompt"}, {"turns": [user text...]}, {"input_ids", "loss_mask"} or
/// {"text", "speech"} (data/speech_row.h), each with an optional "id" and "domain". Role names of
/// other formats (human, gpt, model...) are understood. Content given as text parts becomes one
/// string; parts that name images or audio are resolved as in data/media.h, with relative paths
/// taken from `directory`. Throws RowError.
Conversation parse_conversation(std::string_view row, const std::filesystem::path& directory = {});

/// The messages to answer: those before the trailing assistant turns; of rows that are user turns
/// only (`turns`), the first user turn. Throws RowError if nothing is left.
Json prompt_messages(const Conversation& conversation);

/// How many answers the conversation asks for: its groups of user or tool turns.
int64_t answer_count(const Conversation& conversation);
/// The messages before answer `answers.size()`, with the earlier answers in place of the row's own:
/// for regenerating a conversation turn by turn.
Json messages_before_answer(const Conversation& conversation,
                            const std::vector<std::string>& answers);

}  // namespace aerie
