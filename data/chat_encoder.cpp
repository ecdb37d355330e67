#include "data/chat_encoder.h"

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

/// Cuts off a leading <think>...</think>.
void cut_reasoning(std::string& content) {
  const size_t end = content.find("</think>");
  if (end != std::string::npos) content.erase(0, content.find_first_not_of('\n', end + 8));
}

void drop_reasoning(Json& message) {
  for (const char* key : {"reasoning_content", "thinking", "reasoning"}) message.erase(key);
  if (message.at("content").is_string())
    cut_reasoning(message.at("content").get_ref<std::string&>());
}

bool says_nothing(const Json& message) {
  const Json& content = message.at("content");
  const bool silent =
      content.is_null() || content.empty() ||
      (content.is_string() &&
       content.get_ref<const std::string&>().find_first_not_of(" \t\r\n") == std::string::npos);
  return silent && (!message.contains("tool_calls") || message.at("tool_calls").empty());
}

/// A template would set its own empty thought before such an answer: text that no target wrote.
bool ends_in_thought(const Json& message) {
  const Json& content = message.at("content");
  if (!content.is_string()) return false;
  const auto& text = content.get_ref<const std::string&>();
  return text.find("<think>") != std::string::npos && text.find("</think>") == std::string::npos;
}

void check_messages(const Json& messages) {
  bool answered = false;
  for (const Json& message : messages) {
    if (message.at("role") != "assistant") continue;
    answered = true;
    if (says_nothing(message)) throw RowError("empty assistant turn", "");
    if (ends_in_thought(message)) {
      throw RowError("answer cut inside its reasoning",
                     "<think> without </think>; resample with a larger --max-new-tokens");
    }
  }
  if (!answered) throw RowError("no assistant turn", "");
}

Json parse_variables(const std::string& text) {
  const Json variables = Json::parse(text, nullptr, false);
  AERIE_CHECK(variables.is_object(), "template variables must be a JSON object, not: {}", text);
  return variables;
}

/// Before the template sees parts that it was not written for.
void refuse_other_media(const Json& messages, const MediaProcessors& processors) {
  for (const MediaRef& media : media_of(messages)) processors.of(media.kind);
}

}  // namespace

ChatEncoder::ChatEncoder(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                         ChatOptions options, const MediaProcessors& processors)
    : tokenizer_(tokenizer),
      template_(chat_template),
      processors_(processors),
      options_(std::move(options)),
      variables_(parse_variables(options_.variables)) {
  if (!options_.assistant_header.empty()) {
    markers_ = {options_.assistant_header, options_.end_of_turn, ""};
    return;
  }
  try {
    markers_ = find_turn_markers(template_, tokenizer_, variables_);
  } catch (const Error&) {
    if (!template_.has_generation_tag()) throw;  // otherwise the template marks the turns itself
  }
  if (!options_.end_of_turn.empty()) markers_.end_of_turn = options_.end_of_turn;
}

Json ChatEncoder::prepare(Json messages) const {
  if (options_.keep_reasoning) return messages;
  for (Json& message : messages)
    if (message.at("role") == "assistant") drop_reasoning(message);
  return messages;
}

std::vector<ByteSpan> ChatEncoder::spans_of(const RenderedChat& chat, const Json& messages) const {
  std::vector<ByteSpan> spans = template_.has_generation_tag()
                                    ? mend_generation_spans(chat.text, chat.generation, markers_)
                                    : assistant_spans(chat.text, messages, markers_);
  if (options_.last_turn_only && spans.size() > 1) spans.erase(spans.begin(), spans.end() - 1);
  return spans;
}

EncodedChat ChatEncoder::encode(Conversation conversation) const {
  if (conversation.tokenised())
    return encode_tokenised(conversation, tokenizer_.vocab_size(), options_.last_turn_only);
  if (conversation.speech)
    throw RowError("the target writes text",
                   "a row of \"text\" is one to be spoken: give messages, or prompt and response");
  const Json messages = prepare(std::move(conversation.messages));
  check_messages(messages);
  refuse_other_media(messages, processors_);
  Json variables = variables_;
  variables.update(conversation.variables);
  RenderedChat chat;
  try {
    chat = template_.render(messages, false, variables);
  } catch (const Error& e) {
    throw RowError("refused by the chat template", e.what());
  }
  const std::vector<ByteSpan> spans = spans_of(chat, messages);
  EncodedChat encoded;
  Encoding encoding = tokenizer_.encode(chat.text);
  mark_tokens(encoding, spans, encoded);
  encoded.ids = std::move(encoding.ids);
  encoded.text = std::move(chat.text);
  expand_media(messages, encoded);
  return encoded;
}

std::vector<int32_t> ChatEncoder::ending_ids() const {
  std::vector<int32_t> ids = tokenizer_.encode(markers_.end_of_turn).ids;
  std::erase_if(ids, [this](int32_t id) { return !tokenizer_.is_special(id); });
  return ids;
}

std::string ChatEncoder::decode(std::span<const int32_t> ids) const {
  return tokenizer_.decode(ids, false);
}

void ChatEncoder::expand_media(const Json& messages, EncodedChat& encoded) const {
  const std::vector<MediaRef> media = media_of(messages);
  if (media.empty() && !processors_.any()) return;
  MediaPlaces places = place_media(encoded.ids, media, processors_);
  encoded.ids = places.expand(encoded.ids);
  encoded.assistant = places.expand(encoded.assistant);
  for (auto& turn : encoded.turns) {
    for (int32_t& edge : turn) edge = static_cast<int32_t>(places.expanded(edge));
  }
  encoded.media = std::move(places.spans);
}

MediaTokens ChatEncoder::encode_prompt(const Json& messages, const Json& variables) const {
  Json all = variables_;
  all.update(variables);
  return encode_prompt_text(tokenizer_, processors_,
                            template_.render(prepare(messages), true, all).text, messages);
}

std::string ChatEncoder::fingerprint() const {
  return hash_hex(fmt::format("{} {} {} {} {}\n{}\n{}\n{}", tokenizer_.fingerprint(),
                              template_.fingerprint(), options_.last_turn_only,
                              options_.keep_reasoning, options_.variables, markers_.header,
                              markers_.end_of_turn, markers_.forced) +
                  processors_.fingerprint());
}

MediaTokens encode_prompt_text(const Tokenizer& tokenizer, const MediaProcessors& processors,
                               const std::string& text, const Json& messages) {
  MediaTokens prompt{tokenizer.encode(text).ids, {}};
  const std::vector<MediaRef> media = media_of(messages);
  if (media.empty() && !processors.any()) return prompt;
  MediaPlaces places = place_media(prompt.ids, media, processors);
  return {places.expand(prompt.ids), std::move(places.spans)};
}

void mark_tokens(const Encoding& encoding, const std::vector<ByteSpan>& spans,
                 EncodedChat& encoded) {
  encoded.assistant.assign(encoding.ids.size(), 0);
  size_t token = 0;
  for (const ByteSpan& span : spans) {
    while (token < encoding.ids.size() && encoding.offsets[token][1] <= span.begin) ++token;
    const size_t begin = token;
    while (token < encoding.ids.size() && encoding.offsets[token][0] < span.end) {
      encoded.assistant[token++] = 1;
    }
    if (token > begin)
      encoded.turns.push_back({static_cast<int32_t>(begin), static_cast<int32_t>(token)});
  }
}

}  // namespace aerie
