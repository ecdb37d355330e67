#include "data/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "data/hf_text.h"

namespace aerie {
namespace {

constexpr const char* kSpecialNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};

Json read_json(const fs::path& file) {
  try {
    return Json::parse(read_file(file));
  } catch (const Json::exception& e) {
    fail("{}: not JSON: {}", file.string(), e.what());
  }
}

Json read_json_if_there(const fs::path& file) {
  return fs::exists(file) ? read_json(file) : Json::object();
}

/// A token is written as its text, or as an object with its options.
void take_special_tokens(const Json& from, Json& tokens) {
  for (const char* name : kSpecialNames) {
    const auto at = from.find(name);
    if (at == from.end() || tokens.contains(name)) continue;
    if (at->is_string()) tokens[name] = *at;
    if (at->is_object() && at->contains("content")) tokens[name] = at->at("content");
  }
}

constexpr const char* kReasoning[] = {"reasoning_content", "thinking", "reasoning"};

/// What transformers does to a message before the template sees it.
Json with_template_names(const Json& message) {
  Json kept = Json::object();
  for (const auto& [key, value] : message.items())
    if (!value.is_null()) kept[key] = value;
  for (const char* name : kReasoning) {
    if (!kept.contains(name)) continue;
    const Json reasoning = kept.at(name);
    if (!kept.contains("thinking")) kept["thinking"] = reasoning;
    kept["reasoning_content"] = reasoning;
    break;
  }
  return kept;
}

/// Most messages are: they need not be copied.
bool is_plain(const Json& message) {
  const auto reasons = [&](const char* name) { return message.contains(name); };
  return std::none_of(message.begin(), message.end(), [](const Json& v) { return v.is_null(); }) &&
         std::none_of(std::begin(kReasoning), std::end(kReasoning), reasons);
}

void append_object(std::string& out, const Json& object) {
  out += '{';
  for (const auto& [key, value] : object.get_ref<const Json::object_t&>()) {
    if (out.back() != '{') out += ',';
    append_json_string(out, key);
    out += ':';
    if (value.is_string()) {
      append_json_string(out, value.get_ref<const std::string&>());
    } else {
      out += value.dump();
    }
  }
  out += '}';
}

/// [message, ...] as the template sees them.
std::string dump_messages(const Json& messages) {
  std::string text = "[";
  for (const Json& message : messages) {
    AERIE_CHECK(message.is_object(),
                "a chat message must be an object with role and content, not {}", message.dump());
    if (text.size() > 1) text += ',';
    if (is_plain(message)) {
      append_object(text, message);
    } else {
      append_object(text, with_template_names(message));
    }
  }
  AERIE_CHECK(is_utf8(text), "a chat message is not UTF-8");
  return text + ']';
}

/// One JSON object of the members of several; of members with one name the last counts.
std::string join_objects(std::initializer_list<std::string_view> objects) {
  std::string joined = "{";
  for (std::string_view object : objects) {
    object = object.substr(1, object.size() - 2);
    if (object.empty()) continue;
    if (joined.size() > 1) joined += ',';
    joined += object;
  }
  return joined + '}';
}

}  // namespace

void ChatTemplate::Release::operator()(HfTemplate* handle) const { hf_template_free(handle); }

ChatTemplate::ChatTemplate(const std::string& source, const Json& special_tokens,
                           const std::string& origin)
    : special_tokens_(special_tokens.dump()), origin_(origin) {
  set_templates(source);
}

ChatTemplate::ChatTemplate(const fs::path& model_dir) : origin_(model_dir.string()) {
  const Json config = read_json_if_there(model_dir / "tokenizer_config.json");
  Json tokens = Json::object();
  take_special_tokens(config, tokens);
  take_special_tokens(read_json_if_there(model_dir / "special_tokens_map.json"), tokens);
  special_tokens_ = tokens.dump();
  load_templates(model_dir, config);
}

void ChatTemplate::load_templates(const fs::path& model_dir, const Json& tokenizer_config) {
  const fs::path jinja = model_dir / "chat_template.jinja", json = model_dir / "chat_template.json";
  if (fs::exists(jinja)) {
    origin_ = jinja.string();
    return set_templates(read_file(jinja));
  }
  for (const auto& [file, content] :
       {std::pair(model_dir / "tokenizer_config.json", tokenizer_config),
        std::pair(json, read_json_if_there(json))}) {
    const auto at = content.find("chat_template");
    if (at == content.end() || at->is_null()) continue;
    origin_ = file.string();
    return set_templates(*at);
  }
  fail(
      "{}: no chat template (looked for chat_template.jinja, and \"chat_template\" in "
      "tokenizer_config.json and chat_template.json): a base model has none; take the "
      "instruction-tuned one, or put a chat_template.jinja there",
      model_dir.string());
}

void ChatTemplate::set_templates(const Json& templates) {
  fingerprint_ = hash_hex(templates.dump() + special_tokens_);
  if (templates.is_string()) {
    default_ = compile(templates);
    return;
  }
  try {
    for (const Json& entry : templates) {
      if (entry.at("name") == "default") default_ = compile(entry.at("template"));
      if (entry.at("name") == "tool_use") with_tools_ = compile(entry.at("template"));
    }
  } catch (const Json::exception& e) {
    fail("{}: chat_template is neither a string nor a list of {{name, template}}: {}", origin_,
         e.what());
  }
  AERIE_CHECK(default_, "{}: several chat templates and none is named \"default\": name one so",
              origin_);
}

ChatTemplate::Handle ChatTemplate::compile(const std::string& source) const {
  Handle handle(hf_template_new(source.data(), source.size()));
  AERIE_CHECK(handle, "{}: the chat template does not parse: {}", origin_, hf_error());
  return handle;
}

bool ChatTemplate::has_generation_tag() const { return hf_template_has_generation(default_.get()); }

std::string ChatTemplate::special_token(std::string_view name) const {
  return Json::parse(special_tokens_).value(std::string(name), std::string());
}

RenderedChat ChatTemplate::render(const Json& messages, bool add_generation_prompt) const {
  return render(messages, add_generation_prompt, Json::object());
}

RenderedChat ChatTemplate::render(const Json& messages, bool add_generation_prompt,
                                  const Json& variables) const {
  Json others = {{"tools", nullptr}, {"documents", nullptr}};
  others.update(variables);
  others["add_generation_prompt"] = add_generation_prompt;
  const HfTemplate* chosen =
      with_tools_ && !others.at("tools").is_null() ? with_tools_.get() : default_.get();
  std::string json;
  try {
    json = join_objects({special_tokens_, others.dump(),
                         fmt::format("{{\"messages\":{}}}", dump_messages(messages))});
  } catch (const Json::exception& e) {
    fail("a chat message is not UTF-8: {}", e.what());
  }
  HfRendered raw{};
  hf_check(hf_template_render(chosen, json.data(), json.size(), &raw), origin_);
  RenderedChat chat;
  chat.text.assign(raw.text.data, raw.text.size);
  for (size_t i = 0; i < raw.span_count; ++i)
    chat.generation.push_back({raw.spans[i][0], raw.spans[i][1]});
  hf_rendered_free(raw);
  return chat;
}

}  // namespace aerie
