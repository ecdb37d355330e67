#include "decoding/chat_client.h"

#include <httplib.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

namespace aerie {

namespace {

constexpr int kTries = 5;
constexpr double kFirstWait = 0.5;          // seconds; each further one is twice as long
constexpr time_t kAnswerSeconds = 60 * 60;  // a long answer of a loaded server

bool passes(int status) { return status == 429 || status >= 500; }

/// What the server says is wrong, in its own words.
std::string reason_of(const httplib::Response& response) {
  const Json body = Json::parse(response.body, nullptr, false);
  if (body.is_object()) {
    const Json& error = body.contains("error") ? body["error"] : body;
    if (error.is_object() && error.contains("message") && error["message"].is_string()) {
      return error["message"].get<std::string>();
    }
  }
  return response.body.substr(0, 200);
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

ChatClient::ChatClient(const std::string& url, std::string model, std::string key)
    : model_(std::move(model)), key_(std::move(key)) {
  static const std::string kScheme = "http://";
  AERIE_CHECK(url.starts_with(kScheme) && url.size() > kScheme.size(),
              "--server {}: give http://HOST:PORT/v1 (no https: use a tunnel)", url);
  const size_t slash = url.find('/', kScheme.size());
  origin_ = url.substr(0, slash);
  path_ = slash == std::string::npos ? "" : url.substr(slash);
  while (path_.ends_with('/')) path_.pop_back();
  const Json models = Json::parse(send("/models", ""), nullptr, false);
  std::vector<std::string> names;
  if (models.is_object() && models.contains("data") && models["data"].is_array()) {
    for (const Json& each : models["data"]) names.push_back(text_of(each, "id"));
  }
  AERIE_CHECK(!names.empty(), "{}/models is not a list of models: does the URL end in /v1?", url);
  if (model_.empty() && names.size() == 1) model_ = names.front();
  AERIE_CHECK(std::find(names.begin(), names.end(), model_) != names.end(),
              "{} has the models {}; --model is \"{}\"", url, fmt::join(names, ", "), model_);
}

// GET where `body` is empty. What may pass (nobody there, busy) is tried again.
std::string ChatClient::send(const std::string& path, const std::string& body) const {
  httplib::Client client(origin_);
  client.set_read_timeout(kAnswerSeconds);
  if (!key_.empty()) client.set_bearer_token_auth(key_.c_str());
  std::string failure;
  double wait = kFirstWait;
  for (int attempt = 1;; ++attempt, wait *= 2) {
    const std::string place = path_ + path;
    const httplib::Result result = body.empty()
                                       ? client.Get(place.c_str())
                                       : client.Post(place.c_str(), body, "application/json");
    if (result && result->status == 200) return result->body;
    if (!result) {
      failure = httplib::to_string(result.error());
    } else {
      failure = fmt::format("status {}: {}", result->status, reason_of(*result));
      if (result->status == 401 || result->status == 403 || result->status == 404) break;
      if (!passes(result->status)) throw RequestRefused(failure);
    }
    if (attempt == kTries) break;
    std::this_thread::sleep_for(std::chrono::duration<double>(wait));
  }
  fail("{}{}{}: {}", origin_, path_, path, failure);
}

ChatAnswer ChatClient::ask(const Json& messages, const Json& variables,
                           const ChatRule& rule) const {
  Json body{{"model", model_},
            {"messages", messages},
            {"max_tokens", rule.max_new_tokens},
            {"temperature", rule.temperature},
            {"seed", rule.seed}};
  for (const auto& [name, value] : variables.items()) {
    (name == "tools" ? body[name] : body["chat_template_kwargs"][name]) = value;
  }
  const std::string text = send("/chat/completions", body.dump());
  const Json reply = Json::parse(text, nullptr, false);
  AERIE_CHECK(reply.is_object() && reply.contains("choices") && reply["choices"].is_array() &&
                  !reply["choices"].empty() && reply["choices"][0].contains("message"),
              "{}{} answers without a message: {}", origin_, path_, text.substr(0, 200));
  const Json& choice = reply["choices"][0];
  const Json& message = choice["message"];
  if (message.contains("tool_calls") && message["tool_calls"].is_array() &&
      !message["tool_calls"].empty()) {
    throw RequestRefused("the answer calls tools, which are not run");
  }
  ChatAnswer answer{text_of(message, "content"), text_of(message, "reasoning_content"),
                    text_of(choice, "finish_reason"), 0};
  if (const auto usage = reply.find("usage"); usage != reply.end() && usage->is_object()) {
    answer.tokens = usage->value("completion_tokens", int64_t{0});
  }
  return answer;
}

}  // namespace aerie
