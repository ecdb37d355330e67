#include "decoding/text_target.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "data/chat_encoder.h"
#include "kernels/device.h"
#include "kernels/dtype.h"

namespace aerie {

namespace {

// Bytes that Linux could hand out without swapping; 0 if it does not say.
int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  int64_t kilobytes = 0;
  while (file >> key >> kilobytes >> unit) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

std::optional<SpeechEncoder> speech_of(const std::filesystem::path& directory,
                                       const Tokenizer& tokenizer) {
  const std::optional<SpeechIds> ids = read_speech_ids(directory);
  if (!ids) return std::nullopt;
  return SpeechEncoder(tokenizer, *ids);
}

std::optional<ChatTemplate> chat_of(const std::filesystem::path& directory, bool speaks) {
  if (speaks) return std::nullopt;
  return ChatTemplate(directory);
}

}  // namespace

TextTarget::TextTarget(const std::filesystem::path& directory, const std::string& device,
                       const std::string& dtype)
    : tokenizer(directory),
      speech(speech_of(directory, tokenizer)),
      chat(chat_of(directory, speech.has_value())),
      processors(read_media_processors(directory)),
      model(load_target(directory, parse_device(device), parse_dtype(dtype))) {
  AERIE_CHECK(speech || tokenizer.vocab_size() <= model->config().vocab,
              "{}: the tokenizer has {} ids and the model's embedding {} rows: they belong to "
              "different models",
              directory.string(), tokenizer.vocab_size(), model->config().vocab);
}

MediaTokens TextTarget::encode(const Json& messages, const Json& variables) const {
  AERIE_CHECK(chat, "the target speaks, and takes no messages: give rows of \"text\"");
  return encode_prompt_text(tokenizer, processors, chat->render(messages, true, variables).text,
                            messages);
}

std::string TextTarget::decode(std::span<const int32_t> tokens) const {
  return speech ? speech->decode(tokens) : tokenizer.decode(tokens, true);
}

std::vector<std::string> TextTarget::pieces(std::span<const int32_t> tokens) const {
  std::vector<std::string> pieces;
  StreamDecoder stream(true);
  for (const int32_t token : tokens) {
    pieces.push_back(speech ? fmt::format("{} ", token) : stream.push(tokenizer, token));
  }
  pieces.push_back(stream.finish(tokenizer));
  return pieces;
}

MediaTokens TextTarget::encode_prompt(const Conversation& conversation) const {
  if (conversation.speech) {
    AERIE_CHECK(speech, "the target writes text, and a row of \"text\" is one to be spoken");
    return {speech->encode_prompt(conversation), {}};
  }
  if (!conversation.tokenised()) {
    return encode(prompt_messages(conversation), conversation.variables);
  }
  const auto& mask = conversation.loss_mask;
  const auto answer = std::find(mask.begin(), mask.end(), uint8_t{1});
  const auto begin = conversation.input_ids.begin();
  return {{begin, begin + (answer - mask.begin())}, {}};
}

int64_t TextTarget::pages_for(std::span<const Request> requests, int64_t concurrency) const {
  const ModelConfig& config = model->config();
  const int64_t wanted = pages_for_requests(requests, concurrency);
  const int64_t largest = pages_for_requests(requests, 1);
  const int64_t memory = available_memory() / 2;
  if (!model->device().is_cpu() || memory == 0) return wanted;
  const int64_t page_bytes = 2 * config.layers * config.kv_heads * config.head_dim *
                             KvPool::kPageSize *
                             static_cast<int64_t>(at::elementSize(model->dtype()));
  return std::max(largest, std::min(wanted, memory / page_bytes));
}

Request make_request(const TextTarget& target, const std::string& id, MediaTokens prompt,
                     const RequestRule& rule) {
  Request request;
  request.prompt = std::move(prompt.ids);
  request.media = std::move(prompt.media);
  request.max_new_tokens = rule.max_new_tokens;
  request.sampling.temperature = rule.temperature;
  request.sampling.seed = hash_bytes(fmt::format("{}/{}", rule.seed, id));
  if (!rule.ignore_eos) request.stop_tokens = target.model->config().eos_tokens;
  return request;
}

std::vector<Request> make_requests(const TextTarget& target, const std::vector<PromptRow>& rows,
                                   const RequestRule& rule) {
  std::vector<Request> requests;
  for (const PromptRow& row : rows) {
    try {
      requests.push_back(
          make_request(target, row.id, target.encode_prompt(row.conversation), rule));
      check_request(requests.back(), target.model->config());
    } catch (const Error& error) {
      fail("row {}: {}", row.id, error.what());
    }
  }
  return requests;
}

}  // namespace aerie
