#include "decoding/api_answer.h"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

namespace aerie {

namespace {

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string sse(const Json& json) { return "data: " + dump(json) + "\n\n"; }

/// A token's text; as OpenAI writes it where the bytes are a part of a character: "bytes:\\xf0".
std::string token_text(const Tokenizer& tokenizer, int32_t id, const std::string& bytes) {
  std::string text = tokenizer.decode({&id, 1}, false);
  if (text == bytes) return text;
  text = "bytes:";
  for (const unsigned char byte : bytes) text += fmt::format("\\x{:02x}", byte);
  return text;
}

std::string token_text(const Tokenizer& tokenizer, int32_t id) {
  return token_text(tokenizer, id, tokenizer.token_bytes(id));
}

/// Characters that begin in these bytes.
size_t characters(const std::string& bytes) {
  return std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::string fresh_id(bool chat) {
  std::random_device device;
  return fmt::format("{}-{:08x}{:08x}{:08x}", chat ? "chatcmpl" : "cmpl", device(), device(),
                     device());
}

}  // namespace

ApiAnswer::ApiAnswer(const Tokenizer& tokenizer, ApiRequest request,
                     std::unique_ptr<Generation> generation, std::string model)
    : tokenizer_(tokenizer),
      request_(std::move(request)),
      generation_(std::move(generation)),
      model_(std::move(model)),
      id_(fresh_id(request_.chat)),
      created_(std::time(nullptr)),
      running_(request_.requests.size()) {
  for (size_t i = 0; i < running_; ++i) {
    choices_.emplace_back(TextStream(tokenizer_, request_.text));
  }
}

const char* ApiAnswer::content_type() const {
  return request_.stream ? "text/event-stream" : "application/json";
}

std::string ApiAnswer::next(double seconds) {
  if (done_) return {};
  std::string bytes;
  for (const Delivery& delivery : generation_->next(seconds)) {
    Choice& choice = choices_[delivery.index];
    if (!choice.finish_reason.empty()) continue;  // came behind a stop string
    Piece piece = consume(choice, delivery);
    if (!choice.finish_reason.empty()) --running_;
    if (request_.stream) {
      bytes += event(delivery.index, piece);
    } else {
      collect(choice, std::move(piece));
    }
  }
  if (running_ > 0) return bytes;
  done_ = true;
  return bytes + (request_.stream ? last_events() : response());
}

// A stop string ends the output at the token that completed it, whatever came with that token.
ApiAnswer::Piece ApiAnswer::consume(Choice& choice, const Delivery& delivery) {
  Piece piece;
  const bool last = delivery.finish != FinishReason::kRunning;
  for (size_t i = 0; i < delivery.tokens.size(); ++i) {
    const int32_t token = delivery.tokens[i];
    const bool stop_token =
        delivery.finish == FinishReason::kStop && i + 1 == delivery.tokens.size();
    ++choice.count;
    piece.tokens.push_back(token);
    if (!delivery.logprobs.empty()) piece.logprobs.push_back(delivery.logprobs[i]);
    if (!stop_token || request_.text.include_stop) piece.text += choice.text.push(token);
    if (!choice.text.stopped()) continue;
    choice.finish_reason = "stop";
    choice.stop_reason = choice.text.stop();
    if (!last) generation_->cancel(delivery.index, FinishReason::kStop);
    return piece;
  }
  if (last) finish(choice, delivery, piece);
  return piece;
}

void ApiAnswer::finish(Choice& choice, const Delivery& delivery, Piece& piece) {
  piece.text += choice.text.finish();
  choice.finish_reason = to_string(delivery.finish);
  if (choice.text.stopped()) {  // the last character completed a stop string
    choice.finish_reason = "stop";
    choice.stop_reason = choice.text.stop();
    return;
  }
  const std::vector<int64_t>& own = request_.stop_token_ids;
  if (delivery.finish != FinishReason::kStop) return;
  const int64_t token = delivery.tokens.back();
  if (std::find(own.begin(), own.end(), token) != own.end()) choice.stop_reason = token;
}

Json ApiAnswer::envelope(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
}

Json ApiAnswer::usage() const {
  int64_t prompt = 0, output = 0;
  for (const std::vector<int32_t>& one : request_.prompts)
    prompt += static_cast<int64_t>(one.size());
  for (const Choice& choice : choices_) output += choice.count;
  return {
      {"prompt_tokens", prompt}, {"completion_tokens", output}, {"total_tokens", prompt + output}};
}

const std::vector<int32_t>& ApiAnswer::prompt_of(size_t index) const {
  return request_.prompts[index / request_.n];
}

std::string ApiAnswer::event(size_t index, const Piece& piece) {
  Choice& choice = choices_[index];
  const bool finished = !choice.finish_reason.empty();
  std::string bytes;
  Json chunk = envelope(request_.chat ? "chat.completion.chunk" : "text_completion");
  if (request_.chat && !choice.begun) {
    Json first{{"index", index},
               {"delta", {{"role", "assistant"}, {"content", ""}}},
               {"logprobs", nullptr},
               {"finish_reason", nullptr}};
    chunk["choices"] = Json::array({std::move(first)});
    if (request_.return_token_ids) chunk["prompt_token_ids"] = prompt_of(index);
    bytes += sse(chunk);
    chunk.erase("prompt_token_ids");
  }
  const bool empty = piece.text.empty() && !request_.return_token_ids && piece.logprobs.empty();
  const bool first_ids = !choice.begun && request_.return_token_ids && !request_.chat;
  choice.begun = true;
  if (empty && !finished) return bytes;  // the token's text is held back still
  Json one{{"index", index}};
  if (request_.chat) {
    one["delta"] = piece.text.empty() ? Json::object() : Json{{"content", piece.text}};
  } else {
    one["text"] = piece.text;
  }
  one["logprobs"] = logprobs_json(choice, piece);
  one["finish_reason"] = finished ? Json(choice.finish_reason) : Json(nullptr);
  if (finished) one["stop_reason"] = choice.stop_reason;
  if (request_.return_token_ids) one["token_ids"] = piece.tokens;
  if (first_ids) one["prompt_token_ids"] = prompt_of(index);
  chunk["choices"] = Json::array({std::move(one)});
  return bytes + sse(chunk);
}

std::string ApiAnswer::last_events() const {
  std::string bytes;
  if (request_.include_usage) {
    Json chunk = envelope(request_.chat ? "chat.completion.chunk" : "text_completion");
    chunk["choices"] = Json::array();
    chunk["usage"] = usage();
    bytes = sse(chunk);
  }
  return bytes + "data: [DONE]\n\n";
}

void ApiAnswer::collect(Choice& choice, Piece piece) {
  choice.whole += piece.text;
  choice.tokens.insert(choice.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  Json added = logprobs_json(choice, piece);
  if (added.is_null()) return;
  if (choice.logprobs.is_null()) {
    choice.logprobs = std::move(added);
    return;
  }
  for (auto& [name, values] : choice.logprobs.items()) {
    for (Json& value : added[name]) values.push_back(std::move(value));
  }
}

Json ApiAnswer::choice_json(size_t index, const Choice& choice) const {
  Json one{{"index", index}};
  if (request_.chat) {
    one["message"] = {{"role", "assistant"}, {"content", choice.whole}};
  } else {
    one["text"] = choice.whole;
  }
  one["logprobs"] = choice.logprobs;
  one["finish_reason"] = choice.finish_reason;
  one["stop_reason"] = choice.stop_reason;
  if (!request_.return_token_ids) return one;
  one["token_ids"] = choice.tokens;
  if (!request_.chat) one["prompt_token_ids"] = prompt_of(index);
  return one;
}

std::string ApiAnswer::response() const {
  Json body = envelope(request_.chat ? "chat.completion" : "text_completion");
  body["choices"] = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i)
    body["choices"].push_back(choice_json(i, choices_[i]));
  body["usage"] = usage();
  if (request_.chat && request_.return_token_ids) body["prompt_token_ids"] = prompt_of(0);
  return dump(body) + "\n";
}

Json ApiAnswer::logprobs_json(Choice& choice, const Piece& piece) const {
  if (piece.logprobs.empty()) return nullptr;
  return request_.chat ? chat_logprobs(piece) : completion_logprobs(choice, piece);
}

Json ApiAnswer::chat_logprobs(const Piece& piece) const {
  const auto one = [&](const TokenLogprob& token) {
    const std::string bytes = tokenizer_.token_bytes(token.id);
    return Json{{"token", token_text(tokenizer_, token.id, bytes)},
                {"logprob", token.logprob},
                {"bytes", std::vector<uint8_t>(bytes.begin(), bytes.end())}};
  };
  Json content = Json::array();
  for (const PlaceLogprobs& place : piece.logprobs) {
    Json entry = one(place.chosen);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& token : place.top) entry["top_logprobs"].push_back(one(token));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

Json ApiAnswer::completion_logprobs(Choice& choice, const Piece& piece) const {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array();
  Json offsets = Json::array();
  for (const PlaceLogprobs& place : piece.logprobs) {
    const std::string bytes = tokenizer_.token_bytes(place.chosen.id);
    const std::string text = token_text(tokenizer_, place.chosen.id, bytes);
    tokens.push_back(text);
    logprobs.push_back(place.chosen.logprob);
    offsets.push_back(choice.logprob_text);
    choice.logprob_text += characters(bytes);
    Json top = Json::object();
    top[text] = place.chosen.logprob;
    for (const TokenLogprob& token : place.top) {
      top[token_text(tokenizer_, token.id)] = token.logprob;
    }
    tops.push_back(std::move(top));
  }
  return {{"tokens", tokens},
          {"token_logprobs", logprobs},
          {"top_logprobs", tops},
          {"text_offset", offsets}};
}

}  // namespace aerie
