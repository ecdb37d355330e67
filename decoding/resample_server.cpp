// aerie resample --server: the target answers where it is served already, many rows at a time.
#include "decoding/resample_server.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/media.h"

namespace aerie {

namespace {

void refuse_what_is_no_text(const PromptRow& row) {
  if (row.conversation.speech) throw RowError("speech", "a chat server does not answer it");
  for (const Json& message : row.conversation.messages) {
    if (message.at("content").is_array()) {
      throw RowError("media", "only text is sent to a server; use --target for this row");
    }
  }
}

}  // namespace

ServerResampler::ServerResampler(const ChatClient& client, AnswerRule rule, AnswerLog& log)
    : client_(client), rule_(std::move(rule)), log_(log) {}

// Turn by turn, as the engine does it: an answer that was cut off is no ground to go on from.
void ServerResampler::answer(const PromptRow& row) const {
  refuse_what_is_no_text(row);
  const int64_t wanted = answer_count(row.conversation);
  std::vector<std::string> answers;
  ChatAnswer answer;
  do {
    const Json messages = messages_before_answer(row.conversation, answers);
    answer = client_.ask(messages, row.conversation.variables,
                         {rule_.max_new_tokens, rule_.temperature(row.id),
                          rule_.seed(row.id, static_cast<int64_t>(answers.size()))});
    log_.count_tokens(answer.tokens);
    answers.push_back(answer.content);
  } while (answer.finish_reason == "stop" && static_cast<int64_t>(answers.size()) < wanted);
  const Json reasoning =
      answer.reasoning.empty() ? Json() : Json{{"reasoning_content", answer.reasoning}};
  log_.answered(answered_row(row, answers, answer.finish_reason, reasoning));
}

void ServerResampler::run(std::span<const PromptRow> rows, int64_t concurrency) const {
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr failure;
  std::once_flag first;
  const auto work = [&] {
    for (size_t i = next++; i < rows.size() && !stop; i = next++) {
      try {
        answer(rows[i]);
      } catch (const RequestRefused& error) {
        log_.failed(rows[i], error.what());
      } catch (const RowError& error) {
        log_.failed(rows[i], error.what());
      } catch (...) {  // the server is gone, or the disk is full: for all rows
        std::call_once(first, [&] { failure = std::current_exception(); });
        stop = true;
      }
    }
  };
  std::vector<std::jthread> threads;
  const int64_t count = std::min<int64_t>(concurrency, static_cast<int64_t>(rows.size()));
  for (int64_t i = 0; i < count; ++i) threads.emplace_back(work);
  threads.clear();  // joins
  if (failure) std::rethrow_exception(failure);
}

}  // namespace aerie
