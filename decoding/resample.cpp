// aerie resample: the target answers the prompts of its own draft's training data, turn by turn.
// Rows are appended as they finish; a second run goes on where the first one was stopped, by id.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/progress.h"
#include "decoding/autoregressive.h"
#include "decoding/clock.h"
#include "decoding/commands.h"
#include "decoding/row_log.h"
#include "decoding/text_target.h"

namespace aerie {

namespace {

/// A row on its way: its answers so far, and the tokens of the one that is being written.
struct Work {
  const PromptRow* row;
  std::vector<std::string> answers;
  std::vector<int32_t> tokens;
};

class Resampler {
 public:
  Resampler(const TextTarget& target, const ResampleFlags& flags, RowLog& output, RowLog& failures)
      : target_(target), flags_(flags), output_(output), failures_(failures) {}

  void run(const std::vector<PromptRow>& rows);
  Json summary() const;

 private:
  MediaTokens next_prompt(const Work& work) const;
  Request next_request(const Work& work) const;
  void submit(Engine& engine, Work work);
  void finish_turn(Engine& engine, Work work, const Sequence& sequence);
  Json answered_row(const Work& work, FinishReason reason) const;
  void finish_row(const Work& work, FinishReason reason);
  void fail_row(const Work& work, const std::string& error);
  std::vector<Request> sizes(const std::vector<PromptRow>& rows) const;
  double seconds() const { return seconds_now() - start_; }

  const TextTarget& target_;
  const ResampleFlags& flags_;
  RowLog& output_;
  RowLog& failures_;
  std::unordered_map<int64_t, Work> work_;  // by sequence id
  std::unique_ptr<Progress> progress_;
  double start_ = seconds_now();
  int64_t answered_ = 0, stopped_ = 0, failed_ = 0, tokens_ = 0;
};

MediaTokens Resampler::next_prompt(const Work& work) const {
  const Conversation& conversation = work.row->conversation;
  if (conversation.speech) return target_.encode_prompt(conversation);
  return target_.encode(messages_before_answer(conversation, work.answers), conversation.variables);
}

Request Resampler::next_request(const Work& work) const {
  // Every turn draws from its own stream.
  const std::string id = fmt::format("{}/{}", work.row->id, work.answers.size());
  Request request = make_request(target_, id, next_prompt(work),
                                 {flags_.max_new_tokens, flags_.temperature, flags_.seed, false});
  check_request(request, target_.model->config());
  // A piece of media that cannot be used is this row's failure, not the run's.
  if (!request.media.empty())
    request.encoded = target_.model->encode(pack_document(request.prompt, request.media));
  return request;
}

void Resampler::submit(Engine& engine, Work work) {
  try {
    const int64_t id = engine.submit(next_request(work));
    work.tokens.clear();
    work_.emplace(id, std::move(work));
  } catch (const Error& error) {
    fail_row(work, error.what());
  }
}

void Resampler::finish_turn(Engine& engine, Work work, const Sequence& sequence) {
  work.answers.push_back(target_.decode(work.tokens));
  const int64_t wanted = answer_count(work.row->conversation);
  // An answer that was cut off is no ground to go on from.
  const bool complete = sequence.finish == FinishReason::kStop;
  if (complete && static_cast<int64_t>(work.answers.size()) < wanted) {
    submit(engine, std::move(work));
  } else {
    finish_row(work, sequence.finish);
  }
}

Json Resampler::answered_row(const Work& work, FinishReason reason) const {
  const Conversation& conversation = work.row->conversation;
  Json row{{"id", work.row->id}};
  if (conversation.speech) {
    row.update(speech_row_json(*conversation.speech, target_.speech->codes_of(work.tokens),
                               to_string(reason)));
    return row;
  }
  std::vector<std::string> before(work.answers.begin(), work.answers.end() - 1);
  Json messages = messages_before_answer(conversation, before);
  messages.push_back({{"role", "assistant"}, {"content", work.answers.back()}});
  row["conversations"] = std::move(messages);
  for (const auto& [name, value] : conversation.variables.items()) row[name] = value;
  row["finish_reason"] = to_string(reason);
  return row;
}

void Resampler::finish_row(const Work& work, FinishReason reason) {
  output_.append(answered_row(work, reason));
  ++answered_;
  stopped_ += reason == FinishReason::kStop;
  progress_->update(answered_ + failed_,
                    fmt::format("{:.0f} tokens/s", static_cast<double>(tokens_) / seconds()));
}

void Resampler::fail_row(const Work& work, const std::string& error) {
  const Conversation& conversation = work.row->conversation;
  Json row{{"id", work.row->id}, {"error", error}};
  if (conversation.speech) {
    row["text"] = conversation.speech->text;
  } else {
    row["conversations"] = conversation.messages;
  }
  failures_.append(row);
  ++failed_;
}

// Requests as large as each row can become: all of its turns and all answers at full length.
std::vector<Request> Resampler::sizes(const std::vector<PromptRow>& rows) const {
  const int64_t context = target_.model->config().max_position;
  std::vector<Request> largest;
  for (const PromptRow& row : rows) {
    Request request;
    const Conversation& conversation = row.conversation;
    int64_t length = flags_.max_new_tokens * std::max<int64_t>(1, answer_count(conversation));
    for (const Json& message : conversation.messages) {
      length += static_cast<int64_t>(message.dump().size()) / 2 + 16;  // two bytes a token at least
      if (message.at("content").is_array()) length = context;  // media say nothing of theirs
    }
    if (const auto& speech = conversation.speech) {
      length += static_cast<int64_t>(speech->prompt_text.size() + speech->text.size() +
                                     speech->prompt_speech.size()) +
                16;
    }
    request.max_new_tokens = std::min(length, context);
    largest.push_back(std::move(request));
  }
  return largest;
}

void Resampler::run(const std::vector<PromptRow>& rows) {
  AutoregressiveDecoder decoder;
  Engine engine(
      *target_.model, decoder,
      {{flags_.concurrency, kRowBudget}, target_.pages_for(sizes(rows), flags_.concurrency)});
  progress_ = std::make_unique<Progress>("resample", static_cast<int64_t>(rows.size()), "rows");
  const auto on_tokens = [&](const Sequence& sequence, std::span<const int32_t> tokens) {
    Work& work = work_.at(sequence.id);
    work.tokens.insert(work.tokens.end(), tokens.begin(), tokens.end());
    tokens_ += static_cast<int64_t>(tokens.size());
    if (sequence.finish == FinishReason::kRunning) return;
    Work finished = std::move(work);
    work_.erase(sequence.id);
    finish_turn(engine, std::move(finished), sequence);
  };
  // Rows are rendered and encoded as they are wanted: the first answer does not wait for the last
  // prompt.
  size_t next = 0;
  do {
    while (next < rows.size() && engine.waiting() < flags_.concurrency) {
      submit(engine, {&rows[next++], {}, {}});
    }
  } while (engine.step(on_tokens) || next < rows.size());
  progress_->finish();
  if (failed_ > 0) {
    log_warning(
        fmt::format("{} rows cannot be answered: see {}", failed_, failures_.path().string()));
  }
}

Json Resampler::summary() const {
  return {{"answered", answered_}, {"stopped", stopped_},
          {"failed", failed_},     {"tokens", tokens_},
          {"seconds", seconds()},  {"tokens_per_second", static_cast<double>(tokens_) / seconds()}};
}

}  // namespace

void resample_command(const ResampleFlags& flags) {
  std::vector<PromptRow> rows = read_prompts(flags.input, flags.limit);
  for (const PromptRow& row : rows) {
    AERIE_CHECK(!row.conversation.tokenised(),
                "{}: row {} is tokenised already; resample needs conversations or prompts",
                flags.input.string(), row.id);
  }
  RowLog output(flags.output, RowLog::kResume);
  std::filesystem::path failed_path = flags.output;
  RowLog failures(failed_path.replace_extension(".failed.jsonl"), RowLog::kReplace);
  const int64_t total = static_cast<int64_t>(rows.size());
  std::erase_if(rows, [&](const PromptRow& row) { return output.contains(row.id); });
  const int64_t done = total - static_cast<int64_t>(rows.size());
  if (done > 0) log_info(fmt::format("{} of {} rows were done before", done, total));
  Json summary{{"rows", total}, {"done_before", done}, {"output", flags.output.string()}};
  if (!rows.empty()) {
    const TextTarget target(flags.target, flags.device, flags.dtype);
    Resampler resampler(target, flags, output, failures);
    resampler.run(rows);
    summary.update(resampler.summary());
  }
  if (flags.json) std::printf("%s\n", summary.dump().c_str());
}

}  // namespace aerie
