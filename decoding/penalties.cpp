#include "decoding/penalties.h"

#include <limits>
#include <unordered_map>

namespace aerie {

namespace {

void forbid_stops(std::span<float> logits, std::span<const int64_t> stops) {
  for (const int64_t stop : stops) {
    if (stop >= 0 && stop < static_cast<int64_t>(logits.size())) {
      logits[stop] = -std::numeric_limits<float>::infinity();
    }
  }
}

bool repeats_cost(const SamplingParams& params) {
  return params.repetition_penalty != 1 || params.frequency_penalty != 0 ||
         params.presence_penalty != 0;
}

void penalise(std::span<float> logits, const SamplingParams& params, const RowPast& past) {
  std::unordered_map<int32_t, int64_t> counts;  // in the output; 0: in the prompt only
  for (const int32_t id : past.prompt) counts.try_emplace(id, 0);
  for (const int32_t id : past.output) ++counts[id];
  for (const int32_t id : past.guesses) ++counts[id];
  const float repetition = static_cast<float>(params.repetition_penalty);
  for (const auto& [id, count] : counts) {
    if (id >= static_cast<int64_t>(logits.size())) continue;  // read, never written
    float& logit = logits[id];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (count == 0) continue;
    logit -= static_cast<float>(params.frequency_penalty) * static_cast<float>(count);
    logit -= static_cast<float>(params.presence_penalty);
  }
}

}  // namespace

bool changes_logits(const SamplingParams& params) {
  return params.min_tokens > 0 || !params.logit_bias.empty() || repeats_cost(params);
}

void change_logits(std::span<float> logits, const SamplingParams& params, const RowPast& past) {
  if (past.new_tokens() < params.min_tokens) forbid_stops(logits, past.stop_tokens);
  for (const LogitBias& one : params.logit_bias) logits[one.id] += one.bias;
  if (repeats_cost(params)) penalise(logits, params, past);
}

}  // namespace aerie
