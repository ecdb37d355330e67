#include "decoding/api_request.h"

#include <algorithm>

#include "common/files.h"
#include "decoding/api_fields.h"

namespace aerie {

namespace {

constexpr int64_t kMostLogprobs = 20, kMostStops = 16;
constexpr int kDeepest = 64;  // objects and lists within each other: they are read recursively
constexpr double kGreedyBelow = 1e-5;  // as in vLLM: a temperature below is 0

// What would change the answer and is not there must not be passed over.
void refuse_unsupported(const ApiFields& fields, const Json& body) {
  fields.unsupported("best_of", 1, "is not supported: use n");
  fields.unsupported("echo", false, "is not supported");
  fields.unsupported("suffix", "", "is not supported");
  fields.unsupported("use_beam_search", false, "is not supported");
  fields.unsupported("tools", Json::array(), "is not supported: put tools into the messages");
  fields.unsupported("functions", Json::array(), "is not supported");
  fields.unsupported("prompt_logprobs", 0, "is not supported: log probabilities are of the output");
  fields.unsupported("continue_final_message", false, "is not supported");
  fields.unsupported("add_generation_prompt", true,
                     "is not supported: an answer is always asked for");
  fields.unsupported("truncate_prompt_tokens", -1, "is not supported: shorten the prompt");
  fields.unsupported("chat_template", "", "is not supported: the target's own is used");
  const Json* choice = fields.find("tool_choice");
  if (choice != nullptr && *choice != "none" && *choice != "auto") {
    fields.wrong("tool_choice", "is not supported: put tools into the messages");
  }
  const Json* format = fields.find("response_format");
  if (format != nullptr && *format != Json{{"type", "text"}}) {
    fields.wrong("response_format", "supports only {\"type\": \"text\"}");
  }
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar",
                           "structured_outputs", "bad_words", "allowed_token_ids", "audio"}) {
    if (body.contains(name) && !body[name].is_null()) fields.wrong(name, "is not supported");
  }
}

// The text of a message whose content is a list of parts.
std::string joined_parts(const ApiFields& fields, const Json& parts) {
  std::string text;
  for (const Json& part : parts) {
    const ApiFields inner(part, "messages.content.");
    if (!part.is_object() || inner.text("type", "") != "text" || inner.find("text") == nullptr) {
      fields.wrong("messages", "may hold text parts only: this server reads text");
    }
    text += inner.text("text", "");
  }
  return text;
}

std::vector<int32_t> chat_prompt(const ApiFields& fields, const TextTarget& target,
                                 const ApiLimits& limits) {
  const Json* given = fields.find("messages");
  if (given == nullptr) fields.wrong("messages", "is missing");
  if (!given->is_array() || given->empty()) fields.wrong("messages", "must be a list of messages");
  Json messages = *given;
  size_t bytes = 0;
  for (Json& message : messages) {
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      fields.wrong("messages", "must be objects with role and content");
    }
    Json& content = message["content"];
    if (content.is_array()) content = joined_parts(fields, content);
    if (content.is_null() && message["role"] == "assistant") content = "";  // as of calls of tools
    if (!content.is_string()) fields.wrong("messages", "must have a text as content");
    bytes += content.get_ref<const std::string&>().size();
  }
  if (static_cast<int64_t>(bytes) > limits.context * limits.longest_token) {
    fields.wrong("messages",
                 fmt::format("are longer than the context of {} tokens", limits.context));
  }
  const Json* variables = fields.find("chat_template_kwargs");
  if (variables != nullptr && !variables->is_object()) {
    fields.wrong("chat_template_kwargs", "must be an object");
  }
  try {
    return target.encode(messages, variables == nullptr ? Json::object() : *variables).ids;
  } catch (const Error& error) {
    fields.wrong("messages", std::string("cannot be put into the chat template: ") + error.what());
  }
}

std::vector<int32_t> encode_text(const ApiFields& fields, const std::string& text,
                                 const TextTarget& target, const ApiLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.context * limits.longest_token) {
    fields.wrong("prompt", fmt::format("of {} bytes is longer than the context of {} tokens",
                                       text.size(), limits.context));
  }
  try {
    return target.tokenizer.encode(text, true).ids;
  } catch (const Error& error) {
    fields.wrong("prompt", std::string("cannot be tokenised: ") + error.what());
  }
}

std::vector<int32_t> token_ids(const ApiFields& fields, const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    const bool fits = id.is_number_integer() && id.get<int64_t>() >= 0 &&
                      id.get<int64_t>() <= std::numeric_limits<int32_t>::max();
    if (!fits) fields.wrong("prompt", "must be a text, token ids, or a list of either");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

std::vector<std::vector<int32_t>> completion_prompts(const ApiFields& fields,
                                                     const TextTarget& target,
                                                     const ApiLimits& limits) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) fields.wrong("prompt", "is missing");
  if (prompt->is_string()) {
    return {encode_text(fields, prompt->get_ref<const std::string&>(), target, limits)};
  }
  if (!prompt->is_array() || prompt->empty()) {
    fields.wrong("prompt", "must be a text, token ids, or a list of either");
  }
  if (prompt->front().is_number()) return {token_ids(fields, *prompt)};
  std::vector<std::vector<int32_t>> prompts;
  if (static_cast<int64_t>(prompt->size()) > limits.max_choices) {
    fields.wrong("prompt", fmt::format("has more than {} prompts", limits.max_choices));
  }
  for (const Json& one : *prompt) {
    if (!one.is_string() && !one.is_array()) {
      fields.wrong("prompt", "must be a text, token ids, or a list of either");
    }
    prompts.push_back(one.is_string()
                          ? encode_text(fields, one.get_ref<const std::string&>(), target, limits)
                          : token_ids(fields, one));
  }
  return prompts;
}

std::vector<LogitBias> logit_biases(const ApiFields& fields, int64_t vocab) {
  std::vector<LogitBias> biases;
  const Json* given = fields.find("logit_bias");
  if (given == nullptr) return biases;
  if (!given->is_object()) fields.wrong("logit_bias", "must map token ids to numbers");
  for (const auto& [key, value] : given->items()) {
    const bool digits =
        !key.empty() && key.size() < 10 &&
        std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || std::stoll(key) >= vocab) {
      fields.wrong("logit_bias", fmt::format("names {}, the vocabulary has {}", key, vocab));
    }
    if (!value.is_number() || !(std::abs(value.get<double>()) <= 100)) {
      fields.wrong("logit_bias", "must lie between -100 and 100");
    }
    biases.push_back({static_cast<int32_t>(std::stoll(key)), value.get<float>()});
  }
  return biases;
}

std::vector<int64_t> stop_ids(const ApiFields& fields, int64_t vocab) {
  std::vector<int64_t> ids = fields.integers("stop_token_ids");
  for (const int64_t id : ids) {
    if (id >= 0 && id < vocab) continue;
    fields.wrong("stop_token_ids", fmt::format("names {}, the vocabulary has {}", id, vocab));
  }
  return ids;
}

int64_t wanted_logprobs(const ApiFields& fields, bool chat) {
  if (!chat) return fields.integer("logprobs", -1, 0, kMostLogprobs);
  const int64_t top = fields.integer("top_logprobs", 0, 0, kMostLogprobs);
  if (fields.flag("logprobs", false)) return top;
  if (top > 0) fields.wrong("top_logprobs", "needs logprobs: true");
  return -1;
}

SamplingParams sampling_of(const ApiFields& fields, bool chat, int64_t vocab, uint64_t fresh_seed) {
  SamplingParams params;
  params.min_tokens = fields.integer("min_tokens", 0, 0, 1 << 30);
  params.logit_bias = logit_biases(fields, vocab);
  params.repetition_penalty = fields.number("repetition_penalty", 1, 1e-3, 1e3);
  params.frequency_penalty = fields.number("frequency_penalty", 0, -2, 2);
  params.presence_penalty = fields.number("presence_penalty", 0, -2, 2);
  params.temperature = fields.number("temperature", 1, 0, 100);
  if (params.temperature < kGreedyBelow) params.temperature = 0;
  params.top_k =
      std::max<int64_t>(0, fields.integer("top_k", 0, -1, 1 << 30));  // -1: all, as in vLLM
  params.top_p = fields.number("top_p", 1, 1e-9, 1);
  params.min_p = fields.number("min_p", 0, 0, 1);
  params.logprobs = wanted_logprobs(fields, chat);
  params.seed = fields.find("seed") == nullptr
                    ? fresh_seed
                    : static_cast<uint64_t>(fields.integer("seed", 0, INT64_MIN, INT64_MAX));
  return params;
}

int64_t wanted_length(const ApiFields& fields, bool chat, int64_t prompt, const ApiLimits& limits) {
  constexpr int64_t kCompletionDefault = 16;  // OpenAI's
  const int64_t rest = limits.context - prompt;
  if (rest <= 0) {
    throw ApiError(
        400,
        fmt::format("the context holds {} tokens, output included, and the prompt has {}",
                    limits.context, prompt),
        chat ? "messages" : "prompt");
  }
  const char* name = fields.find("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  const int64_t otherwise = chat ? rest : std::min(kCompletionDefault, rest);
  const int64_t wanted = fields.integer(name, otherwise, 1, INT64_MAX);
  if (wanted > rest) {
    fields.wrong(name,
                 fmt::format("is {}, and behind a prompt of {} tokens the context of {} has room "
                             "for {}",
                             wanted, prompt, limits.context, rest));
  }
  return wanted;
}

TextRule text_rule(const ApiFields& fields) {
  TextRule rule;
  rule.stops = fields.texts("stop");
  if (static_cast<int64_t>(rule.stops.size()) > kMostStops) {
    fields.wrong("stop", fmt::format("has more than {} strings", kMostStops));
  }
  for (const std::string& stop : rule.stops) {
    if (stop.empty()) fields.wrong("stop", "has an empty string");
  }
  rule.include_stop = fields.flag("include_stop_str_in_output", false);
  rule.skip_special = fields.flag("skip_special_tokens", true);
  return rule;
}

void read_stream(const ApiFields& fields, ApiRequest& request) {
  request.stream = fields.flag("stream", false);
  const Json* options = fields.find("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) fields.wrong("stream_options", "must be an object");
  if (!request.stream) fields.wrong("stream_options", "needs stream: true");
  request.include_usage = ApiFields(*options, "stream_options.").flag("include_usage", false);
}

Json parse_body(const std::string& body) {
  Json parsed;
  try {
    parsed = Json::parse(body, [](int depth, Json::parse_event_t, Json&) {
      if (depth > kDeepest) {
        throw ApiError(400, fmt::format("the body nests deeper than {} levels", kDeepest));
      }
      return true;
    });
  } catch (const nlohmann::json::exception& error) {
    throw ApiError(400, std::string("the body is not JSON: ") + error.what());
  }
  if (!parsed.is_object()) throw ApiError(400, "the body must be a JSON object");
  return parsed;
}

}  // namespace

ApiRequest parse_api_request(const std::string& body, bool chat, const TextTarget& target,
                             const ApiLimits& limits, uint64_t fresh_seed) {
  const Json parsed = parse_body(body);
  const ApiFields fields(parsed, "");
  refuse_unsupported(fields, parsed);
  ApiRequest request;
  request.chat = chat;
  request.model = fields.text("model", "");
  read_stream(fields, request);
  request.return_token_ids = fields.flag("return_token_ids", false);
  request.n = fields.integer("n", 1, 1, limits.max_choices);
  request.text = text_rule(fields);
  const int64_t vocab = target.model->config().vocab;
  request.stop_token_ids = stop_ids(fields, vocab);
  const SamplingParams sampling = sampling_of(fields, chat, vocab, fresh_seed);
  request.text.min_tokens = sampling.min_tokens;
  std::vector<int64_t> stops = request.stop_token_ids;
  if (!fields.flag("ignore_eos", false)) {
    const std::vector<int64_t>& eos = target.model->config().eos_tokens;
    stops.insert(stops.end(), eos.begin(), eos.end());
  }
  if (chat) {
    request.prompts.push_back(chat_prompt(fields, target, limits));
  } else {
    request.prompts = completion_prompts(fields, target, limits);
  }
  if (static_cast<int64_t>(request.prompts.size()) * request.n > limits.max_choices) {
    fields.wrong("n", fmt::format("times prompts is more than {}", limits.max_choices));
  }
  for (const std::vector<int32_t>& prompt : request.prompts) {
    const int64_t length = wanted_length(fields, chat, static_cast<int64_t>(prompt.size()), limits);
    if (sampling.min_tokens > length) {
      fields.wrong("min_tokens", fmt::format("is more than the {} tokens that may come", length));
    }
    for (int64_t choice = 0; choice < request.n; ++choice) {
      Request one;
      one.prompt = prompt;
      one.sampling = sampling;
      one.max_new_tokens = length;
      one.stop_tokens = stops;
      // Choices differ; the first one is the request's own seed.
      if (choice > 0) one.sampling.seed = hash_bytes(fmt::format("{}/{}", sampling.seed, choice));
      try {
        check_request(one, target.model->config());
      } catch (const Error& error) {
        throw ApiError(400, error.what(), chat ? "messages" : "prompt");
      }
      request.requests.push_back(std::move(one));
    }
  }
  return request;
}

int64_t longest_token(const Tokenizer& tokenizer) {
  size_t longest = 1;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    try {
      longest = std::max(longest, tokenizer.id_to_token(id).size());
    } catch (const Error&) {
      continue;  // ids that no token has
    }
  }
  return static_cast<int64_t>(longest);
}

}  // namespace aerie
