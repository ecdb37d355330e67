#include "decoding/answer_log.h"

#include <nlohmann/json.hpp>

#include "common/log.h"
#include "data/speech_row.h"
#include "decoding/clock.h"

namespace aerie {

AnswerLog::AnswerLog(RowLog& output, RowLog& failures, int64_t rows)
    : output_(output),
      failures_(failures),
      progress_("resample", rows, "rows"),
      start_(seconds_now()) {}

double AnswerLog::seconds() const { return seconds_now() - start_; }

void AnswerLog::count_tokens(int64_t tokens) {
  const std::scoped_lock lock(mutex_);
  tokens_ += tokens;
}

void AnswerLog::show() {
  progress_.update(answered_ + failed_,
                   fmt::format("{:.0f} tokens/s", static_cast<double>(tokens_) / seconds()));
}

void AnswerLog::answered(const Json& row) {
  const std::scoped_lock lock(mutex_);
  output_.append(row);
  ++answered_;
  stopped_ += row.at("finish_reason") == "stop";
  show();
}

void AnswerLog::failed(const PromptRow& row, const std::string& error) {
  Json failure{{"id", row.id}, {"error", error}};
  if (row.conversation.speech) {
    failure["text"] = row.conversation.speech->text;
  } else {
    failure["conversations"] = row.conversation.messages;
  }
  const std::scoped_lock lock(mutex_);
  failures_.append(failure);
  ++failed_;
  show();
}

void AnswerLog::finish() {
  progress_.finish();
  if (failed_ == 0) return;
  log_warning(
      fmt::format("{} rows cannot be answered: see {}", failed_, failures_.path().string()));
}

Json AnswerLog::summary() const {
  return {{"answered", answered_}, {"stopped", stopped_},
          {"failed", failed_},     {"tokens", tokens_},
          {"seconds", seconds()},  {"tokens_per_second", static_cast<double>(tokens_) / seconds()}};
}

Json answered_row(const PromptRow& row, const std::vector<std::string>& answers,
                  const std::string& reason, const Json& last) {
  const std::vector<std::string> before(answers.begin(), answers.end() - 1);
  Json messages = messages_before_answer(row.conversation, before);
  Json answer{{"role", "assistant"}, {"content", answers.back()}};
  if (last.is_object()) answer.update(last);
  messages.push_back(std::move(answer));
  Json out{{"id", row.id}, {"conversations", std::move(messages)}};
  for (const auto& [name, value] : row.conversation.variables.items()) out[name] = value;
  out["finish_reason"] = reason;
  return out;
}

}  // namespace aerie
