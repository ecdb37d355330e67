// aerie resample: the target answers the prompts of its own draft's training data, turn by turn.
// Rows are appended as they finish; a second run goes on where the first one was stopped, by id.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "decoding/autoregressive.h"
#include "decoding/commands.h"
#include "decoding/resample_server.h"
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
  Resampler(const TextTarget& target, AnswerRule rule, AnswerLog& log)
      : target_(target), rule_(std::move(rule)), log_(log) {}

  void run(std::span<const PromptRow> rows, int64_t concurrency);

 private:
  MediaTokens next_prompt(const Work& work) const;
  Request next_request(const Work& work) const;
  void submit(Engine& engine, Work work);
  void finish_turn(Engine& engine, Work work, const Sequence& sequence);
  Json row_of(const Work& work, FinishReason reason) const;
  std::vector<Request> sizes(std::span<const PromptRow> rows) const;

  const TextTarget& target_;
  AnswerRule rule_;
  AnswerLog& log_;
  std::unordered_map<int64_t, Work> work_;  // by sequence id
};

MediaTokens Resampler::next_prompt(const Work& work) const {
  const Conversation& conversation = work.row->conversation;
  if (conversation.speech) return target_.encode_prompt(conversation);
  return target_.encode(messages_before_answer(conversation, work.answers), conversation.variables);
}

Request Resampler::next_request(const Work& work) const {
  const std::string& id = work.row->id;
  Request request = make_request(target_, id, next_prompt(work),
                                 {rule_.max_new_tokens, rule_.temperature(id), 0, false});
  request.sampling.seed = rule_.seed(id, static_cast<int64_t>(work.answers.size()));
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
    log_.failed(*work.row, error.what());
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
    log_.answered(row_of(work, sequence.finish));
  }
}

Json Resampler::row_of(const Work& work, FinishReason reason) const {
  const auto& speech = work.row->conversation.speech;
  if (!speech) return answered_row(*work.row, work.answers, to_string(reason));
  Json row{{"id", work.row->id}};
  row.update(speech_row_json(*speech, target_.speech->codes_of(work.tokens), to_string(reason)));
  return row;
}

// Requests as large as each row can become: all of its turns and all answers at full length.
std::vector<Request> Resampler::sizes(std::span<const PromptRow> rows) const {
  const int64_t context = target_.model->config().max_position;
  std::vector<Request> largest;
  for (const PromptRow& row : rows) {
    Request request;
    const Conversation& conversation = row.conversation;
    int64_t length = rule_.max_new_tokens * std::max<int64_t>(1, answer_count(conversation));
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

void Resampler::run(std::span<const PromptRow> rows, int64_t concurrency) {
  AutoregressiveDecoder decoder;
  Engine engine(*target_.model, decoder,
                {{concurrency, kRowBudget}, target_.pages_for(sizes(rows), concurrency)});
  const auto on_tokens = [&](const Sequence& sequence, std::span<const int32_t> tokens) {
    Work& work = work_.at(sequence.id);
    work.tokens.insert(work.tokens.end(), tokens.begin(), tokens.end());
    log_.count_tokens(static_cast<int64_t>(tokens.size()));
    if (sequence.finish == FinishReason::kRunning) return;
    Work finished = std::move(work);
    work_.erase(sequence.id);
    finish_turn(engine, std::move(finished), sequence);
  };
  // Rows are rendered and encoded as they are wanted: the first answer does not wait for the last
  // prompt.
  size_t next = 0;
  do {
    while (next < rows.size() && engine.waiting() < concurrency) {
      submit(engine, {&rows[next++], {}, {}});
    }
  } while (engine.step(on_tokens) || next < rows.size());
}

void answer_rows(const ResampleFlags& flags, std::span<const PromptRow> rows, AnswerLog& log) {
  const AnswerRule rule{flags.max_new_tokens, flags.temperature, flags.seed};
  if (flags.server.empty()) {
    const TextTarget target(flags.target, flags.device, flags.dtype);
    Resampler(target, rule, log).run(rows, flags.concurrency);
  } else {
    const ChatClient client(flags.server, flags.model, flags.api_key);
    log_info(fmt::format("{} of {} answers", client.model(), flags.server));
    ServerResampler(client, rule, log).run(rows, flags.concurrency);
  }
}

}  // namespace

void resample_command(const ResampleFlags& flags) {
  AERIE_CHECK(flags.temperature.front() <= flags.temperature.back(),
              "--temperature {}: give the least first, then the most",
              fmt::join(flags.temperature, ","));
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
    AnswerLog log(output, failures, static_cast<int64_t>(rows.size()));
    answer_rows(flags, rows, log);
    log.finish();
    summary.update(log.summary());
  }
  if (flags.json) std::printf("%s\n", summary.dump().c_str());
}

}  // namespace aerie
