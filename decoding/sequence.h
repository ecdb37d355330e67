// One request on its way through the engine.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/media.h"
#include "target_models/model.h"

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
  std::vector<MediaSpan> media;  ///< what some of its tokens stand for
  EncodedSample encoded;         ///< of a prompt with media; empty: the engine does it
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
  std::vector<int32_t> pages;  ///< owned or shared through PageTable
  int64_t published = 0;       ///< first pages of them that others may share
  int64_t prefix = 0;          ///< what the prefix cache calls the last of those
  int64_t shared_rows = 0;     ///< rows that were found in the cache when it was let in
  bool promised = false;       ///< all the pages that it may ever need are kept for it
  int64_t evictions = 0;       ///< how often it lost its pages to others
  FinishReason finish = FinishReason::kRunning;
  int64_t last_served = 0;  ///< step number; the longest waiting goes first
  DraftStats stats;
  int64_t rope_ahead = 0;  ///< RoPE position of an output token, less its index: media shift it
  std::vector<PlaceLogprobs> logprobs;  ///< per output token, where the request asks for them

  int64_t known() const { return static_cast<int64_t>(tokens.size()); }
  int64_t prompt_tokens() const { return static_cast<int64_t>(request.prompt.size()); }
  int64_t new_tokens() const { return known() - prompt_tokens(); }
  /// Output tokens still allowed.
  int64_t remaining() const { return request.max_new_tokens - new_tokens(); }
  /// Most rows this sequence can ever have in the cache.
  int64_t max_tokens() const { return prompt_tokens() + request.max_new_tokens; }
  /// What RoPE sees of the token at `index`, on one axis.
  int64_t rope_position(int64_t index, int64_t axis) const;
  /// Rows that the target has not seen.
  int64_t missing() const { return known() - committed; }
  /// The prompt is not through yet, or was evicted: more than the last token is missing.
  bool catching_up() const { return committed < prompt_tokens() || missing() > 1; }
};

/// Collects the RoPE positions of rows: [N], or [X,N] once a row's differ between the axes.
class RopePositions {
 public:
  explicit RopePositions(int64_t axes) : axes_(static_cast<size_t>(axes)) {}
  void add(const Sequence& sequence, int64_t index);
  Tensor tensor() const;

 private:
  std::vector<std::vector<int64_t>> axes_;
  bool differ_ = false;
};

/// Collects rows whose embedding is not their token's.
class MediaRows {
 public:
  /// Tokens [first, first + count) of the sequence are rows `row` and on.
  void add(const Sequence& sequence, int64_t first, int64_t count, int64_t row);
  bool empty() const { return rows_.empty(); }
  Tensor embeds() const;     ///< [M,C]
  Tensor deepstack() const;  ///< [M,S*C]; undefined where the target has none
  Tensor rows() const;       ///< [M] i64 ascending

 private:
  std::vector<Tensor> embeds_, deepstack_;
  std::vector<int64_t> rows_;
};

/// Takes the sequence's media to the model, if that has not been done. Throws Error as
/// TargetModel::encode.
void encode_media(Sequence& sequence, const TargetModel& target);

}  // namespace aerie
