// One request on its way through the engine.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace aerie {

/// Changes the logit of one token.
struct LogitBias {
  int32_t id;
  float bias;
};

/// How the next token is drawn from a row of logits; applied in the order of the fields.
struct SamplingParams {
  int64_t min_tokens = 0;             ///< no stop token among the first so many of the output
  std::vector<LogitBias> logit_bias;  ///< added
  /// Positive logits of tokens in prompt or output are divided by it, others multiplied.
  double repetition_penalty = 1;
  double frequency_penalty = 0;  ///< subtracted once for every time that the output has the token
  double presence_penalty = 0;   ///< subtracted once if the output has the token
  double temperature = 0;        ///< 0: the most likely token
  int64_t top_k = 0;             ///< 0: all
  double top_p = 1;              ///< the fewest tokens whose probability reaches it
  double min_p = 0;              ///< least probability, relative to the most likely token's
  uint64_t seed = 0;
  /// Not part of the law: log probabilities to keep of every output token and of so many of the
  /// most likely ones. -1: none at all.
  int64_t logprobs = -1;
};

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams sampling;
  int64_t max_new_tokens = 256;
  std::vector<int64_t> stop_tokens;  ///< end of sequence; the one that is hit is part of the output
};

enum class FinishReason { kRunning, kStop, kLength, kAborted };
/// "stop" or "length", as servers call them; "abort" and "running" otherwise.
std::string to_string(FinishReason reason);

/// A token under the model's own law: no penalty, no temperature.
struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
  int64_t rank = 1;  ///< 1: the most likely token
};
/// One place of an output: the token that was chosen, and the most likely ones, likeliest first.
struct PlaceLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

/// What speculation did for one sequence.
struct DraftStats {
  int64_t forwards = 0;  ///< target forwards that decoded (the prompt's are not counted)
  std::vector<int64_t> reached, accepted;  ///< per depth: guesses looked at, guesses that held
  std::vector<uint8_t> guessed;            ///< per output token: 1 if the draft had it
};

/// Tokens are counted in three ways. `known()`: prompt and output; `written`: rows in the cache,
/// tentative ones included; `committed`: rows that stay. The gap known() - committed says what the
/// next forward has to feed, be it a prompt, the last token, or everything after an eviction.
struct Sequence {
  int64_t id = 0;
  Request request;
  std::vector<int32_t> tokens;
  int64_t written = 0, committed = 0;
  std::vector<int32_t> pages;  ///< owned through PageTable
  FinishReason finish = FinishReason::kRunning;
  int64_t last_served = 0;  ///< step number; the longest waiting goes first
  DraftStats stats;
  std::vector<PlaceLogprobs> logprobs;  ///< per output token, where the request asks for them

  int64_t known() const { return static_cast<int64_t>(tokens.size()); }
  int64_t prompt_tokens() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t new_tokens() const { return known() - prompt_tokens(); }
  /// Output tokens still allowed.
  int64_t remaining() const { return request.max_new_tokens - new_tokens(); }
  /// Most rows this sequence can ever have in the cache.
  int64_t max_tokens() const { return prompt_tokens() + request.max_new_tokens; }
  /// The prompt is not through yet, or was evicted: more than the last token is missing.
  bool catching_up() const { return committed < prompt_tokens() || known() - committed > 1; }
};

}  // namespace aerie
