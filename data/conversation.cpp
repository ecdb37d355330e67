#include "data/conversation.h"

#include <algorithm>
#include <array>
#include <utility>

#include "data/media.h"

namespace aerie {
namespace {

constexpr std::pair<std::string_view, std::string_view> kRoles[] = {
    {"system", "system"},       {"user", "user"},     {"human", "user"},
    {"assistant", "assistant"}, {"gpt", "assistant"}, {"chatgpt", "assistant"},
    {"model", "assistant"},     {"bot", "assistant"}, {"tool", "tool"},
    {"observation", "tool"},    {"function", "tool"},
};

std::string_view role_of(const Json& message) {
  const char* key = message.contains("role") ? "role" : "from";
  if (!message.contains(key) || !message.at(key).is_string())
    throw RowError("a message has no role", message.dump().substr(0, 80));
  const std::string name = message.at(key);
  for (const auto& [known, role] : kRoles)
    if (name == known) return role;
  throw RowError("unknown role", fmt::format("\"{}\" (system, user, assistant, tool, human and gpt "
                                             "are known)",
                                             name));
}

/// Parts that are all text are one text; templates of text models know nothing else.
Json join_text_parts(Json content) {
  if (!content.is_array()) return content;
  std::string text;
  for (const Json& part : content) {
    if (!part.is_object() || part.value("type", "") != "text" || !part.contains("text"))
      return content;
    text += part.at("text").get<std::string>();
  }
  return text;
}

Json parse_message(Json message) {
  if (!message.is_object()) throw RowError("unknown form", "a message is not an object");
  Json out = Json::object();
  out["role"] = role_of(message);
  const char* key = message.contains("content") ? "content" : "value";
  out["content"] = message.contains(key) ? join_text_parts(std::move(message.at(key))) : Json();
  for (auto& [name, value] : message.get_ref<Json::object_t&>()) {
    if (name != "role" && name != "from" && name != "content" && name != "value")
      out[name] = std::move(value);
  }
  const bool has_content = out.at("content").is_string() || out.at("content").is_array();
  if (!has_content && out.at("content") != nullptr)
    throw RowError("unknown form", "content is neither a string nor a list of parts");
  if (!has_content && out.at("role") != "assistant")
    throw RowError("unknown form", "a message has no content");
  return out;
}

void add_message(Conversation& conversation, const char* role, const Json& content) {
  if (!content.is_string()) throw RowError("unknown form", "prompt and response must be strings");
  conversation.messages.push_back({{"role", role}, {"content", content}});
}

void parse_tokenised(const Json& row, Conversation& conversation) {
  conversation.input_ids = row.at("input_ids").get<std::vector<int32_t>>();
  const Json& mask = row.contains("loss_mask") ? row.at("loss_mask") : Json::array();
  for (const Json& value : mask)
    conversation.loss_mask.push_back(value.is_boolean() ? value.get<bool>()
                                                        : value.get<int>() != 0);
  if (conversation.input_ids.empty()) throw RowError("empty conversation", "no input_ids");
  if (conversation.loss_mask.size() != conversation.input_ids.size())
    throw RowError("loss_mask does not match",
                   fmt::format("{} entries for {} input_ids", conversation.loss_mask.size(),
                               conversation.input_ids.size()));
}

void parse_tools(const Json& row, Conversation& conversation) {
  if (!row.contains("tools") || row.at("tools").is_null()) return;
  const Json& tools = row.at("tools");
  conversation.variables["tools"] =
      tools.is_string() ? Json::parse(tools.get<std::string>()) : tools;
}

void parse_messages(const Json& row, Json messages, Conversation& conversation) {
  if (!messages.is_array()) throw RowError("unknown form", "messages are not a list");
  const auto system = row.find("system");
  if (system != row.end() && system->is_string() && !system->get_ref<const std::string&>().empty())
    add_message(conversation, "system", *system);
  for (Json& message : messages) conversation.messages.push_back(parse_message(std::move(message)));
  parse_tools(row, conversation);
}

std::string id_of(const Json& row) {
  for (const char* key : {"id", "question_id"}) {
    if (!row.contains(key) || row.at(key).is_null()) continue;
    return row.at(key).is_string() ? row.at(key).get<std::string>() : row.at(key).dump();
  }
  return "";
}

std::string domain_of(const Json& row) {
  for (const char* key : {"domain", "category"})
    if (row.contains(key) && row.at(key).is_string()) return row.at(key);
  return "";
}

void parse_row(Json row, const std::filesystem::path& directory, Conversation& conversation) {
  if (!row.is_object()) throw RowError("unknown form", "the row is not a JSON object");
  conversation.id = id_of(row);
  conversation.domain = domain_of(row);
  for (const char* key : {"conversations", "messages"})
    if (row.contains(key)) return parse_messages(row, std::move(row.at(key)), conversation);
  if (row.contains("input_ids")) return parse_tokenised(row, conversation);
  if (row.contains("turns")) {
    for (const Json& turn : row.at("turns")) add_message(conversation, "user", turn);
    return;
  }
  if (row.contains("text")) {
    conversation.speech = parse_speech_row(row, directory);
    return;
  }
  if (!row.contains("prompt"))
    throw RowError("unknown form",
                   "expected conversations, messages, prompt and response, turns, input_ids and "
                   "loss_mask, or text and speech");
  add_message(conversation, "user", row.at("prompt"));
  if (row.contains("response")) add_message(conversation, "assistant", row.at("response"));
}

bool is_assistant(const Json& message) { return message.at("role") == "assistant"; }

/// Whether an answer is wanted after message `i`: the last user or tool turn before an assistant
/// one, or of the conversation; in a row of user turns only, each of them.
bool asks(const Json& messages, size_t i, bool user_turns_only) {
  const Json& role = messages[i].at("role");
  if (role != "user" && role != "tool") return false;
  return user_turns_only || i + 1 == messages.size() || is_assistant(messages[i + 1]);
}

bool only_prompts(const Json& messages) {
  return std::none_of(messages.begin(), messages.end(), is_assistant);
}

}  // namespace

Conversation parse_conversation(std::string_view row, const std::filesystem::path& directory) {
  Conversation conversation;
  try {
    parse_row(parse_json(row), directory, conversation);
    resolve_media(conversation.messages, directory);
  } catch (const Json::parse_error& e) {
    throw RowError("not JSON", e.what());
  } catch (const Json::exception& e) {
    throw RowError("unknown form", e.what());
  }
  if (!conversation.tokenised() && !conversation.speech && conversation.messages.empty())
    throw RowError("empty conversation", "no messages");
  return conversation;
}

Json prompt_messages(const Conversation& conversation) {
  const Json& all = conversation.messages;
  size_t end = all.size();
  if (only_prompts(all)) {
    for (end = 0; end < all.size() && !asks(all, end, true);) ++end;
    end = std::min(end + 1, all.size());
  }
  while (end > 0 && is_assistant(all[end - 1])) --end;
  if (end == 0) throw RowError("no user turn", "there is nothing to answer");
  return Json(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(end));
}

int64_t answer_count(const Conversation& conversation) {
  const Json& all = conversation.messages;
  const bool prompts = only_prompts(all);
  int64_t count = 0;
  for (size_t i = 0; i < all.size(); ++i) count += asks(all, i, prompts);
  return count;
}

Json messages_before_answer(const Conversation& conversation,
                            const std::vector<std::string>& answers) {
  const Json& all = conversation.messages;
  const bool prompts = only_prompts(all);
  Json out = Json::array();
  size_t given = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (is_assistant(all[i]) && given > 0) continue;  // replaced by the answer given
    out.push_back(all[i]);
    if (!asks(all, i, prompts)) continue;
    if (given == answers.size()) return out;
    out.push_back({{"role", "assistant"}, {"content", answers[given++]}});
  }
  throw RowError("no user turn", fmt::format("only {} answers are asked for", given));
}

}  // namespace aerie
