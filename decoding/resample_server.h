// Rows answered by a server in the target's place.
#pragma once
#include <span>

#include "decoding/answer_log.h"
#include "decoding/answer_rule.h"
#include "decoding/chat_client.h"

namespace aerie {

class ServerResampler {
 public:
  /// `client` and `log` must outlive it.
  ServerResampler(const ChatClient& client, AnswerRule rule, AnswerLog& log);

  /// `concurrency` rows at a time. What the server refuses fails its row; throws Error where the
  /// server cannot be reached any more.
  void run(std::span<const PromptRow> rows, int64_t concurrency) const;

 private:
  void answer(const PromptRow& row) const;

  const ChatClient& client_;
  AnswerRule rule_;
  AnswerLog& log_;
};

}  // namespace aerie
