#include "decoding/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/error.h"
#include "common/threads.h"

namespace aerie {

namespace {

struct Candidate {
  int32_t id;
  float probability;  // up to a common factor
};

bool more_likely(const Candidate& a, const Candidate& b) {
  return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
}

std::vector<Candidate> softmax_candidates(std::span<const float> logits, double temperature) {
  const float top = logits[argmax(logits)];
  // Finite, so that the top's own 0 stays 0 at any temperature.
  const float scale = static_cast<float>(
      std::min(1.0 / temperature, static_cast<double>(std::numeric_limits<float>::max())));
  std::vector<Candidate> candidates(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<int32_t>(i), std::exp((logits[i] - top) * scale)};
  }
  return candidates;
}

void keep_top_k(std::vector<Candidate>& candidates, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(candidates.size())) return;
  std::nth_element(candidates.begin(), candidates.begin() + (k - 1), candidates.end(), more_likely);
  candidates.resize(k);
}

// Sorts growing prefixes until one reaches the share: nuclei are small, vocabularies are not.
void keep_top_p(std::vector<Candidate>& candidates, double share) {
  if (share >= 1) return;
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.probability;
  double reached = 0;
  for (size_t sorted = 0, width = 64; sorted < candidates.size(); width *= 8) {
    const auto begin = candidates.begin() + sorted;
    const auto end = candidates.begin() + std::min(candidates.size(), sorted + width);
    std::partial_sort(begin, end, candidates.end(), more_likely);
    for (auto it = begin; it != end; ++it) {
      reached += it->probability;
      if (reached >= share * total) {
        candidates.erase(it + 1, candidates.end());
        return;
      }
    }
    sorted = end - candidates.begin();
  }
}

void keep_min_p(std::vector<Candidate>& candidates, double share) {
  if (share <= 0) return;
  float top = 0;
  for (const Candidate& candidate : candidates) top = std::max(top, candidate.probability);
  const float least = static_cast<float>(share) * top;
  std::erase_if(candidates, [least](const Candidate& c) { return c.probability < least; });
}

}  // namespace

double counter_uniform(uint64_t seed, uint64_t position) {
  std::array<uint32_t, 4> counter{static_cast<uint32_t>(position),
                                  static_cast<uint32_t>(position >> 32), 0, 0};
  std::array<uint32_t, 2> key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = 0xD2511F53ull * counter[0];
    const uint64_t b = 0xCD9E8D57ull * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  const uint64_t bits = (static_cast<uint64_t>(counter[0]) << 32) | counter[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

int32_t argmax(std::span<const float> logits) {
  // Two passes: the first one is a plain maximum, which the compiler vectorises.
  constexpr size_t kLanes = 32;
  std::array<float, kLanes> best;
  best.fill(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      best[lane] = logits[i + lane] > best[lane] ? logits[i + lane] : best[lane];
    }
  }
  float top = *std::max_element(best.begin(), best.end());
  for (; i < logits.size(); ++i) top = logits[i] > top ? logits[i] : top;
  AERIE_CHECK(std::isfinite(top),
              "a row of logits has no finite maximum: the weights or a kernel are broken");
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), top) - logits.begin());
}

TokenLaw token_law(std::span<const float> logits, const SamplingParams& params) {
  AERIE_CHECK(params.temperature > 0, "a temperature of {} has no law to sample from",
              params.temperature);
  std::vector<Candidate> candidates = softmax_candidates(logits, params.temperature);
  keep_top_k(candidates, params.top_k);
  keep_top_p(candidates, params.top_p);
  keep_min_p(candidates, params.min_p);
  if (candidates.size() < logits.size()) {  // else they are in order still
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  }
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.probability;
  TokenLaw law;
  law.ids.reserve(candidates.size());
  law.probabilities.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    law.ids.push_back(candidate.id);
    law.probabilities.push_back(candidate.probability / total);
  }
  return law;
}

int32_t draw(const TokenLaw& law, double uniform) {
  double reached = 0;
  int32_t last = law.ids.front();
  for (size_t i = 0; i < law.ids.size(); ++i) {
    if (law.probabilities[i] <= 0) continue;
    last = law.ids[i];
    reached += law.probabilities[i];
    if (uniform < reached) break;
  }
  return last;
}

int32_t choose_token(std::span<const float> logits, const SamplingParams& params,
                     int64_t position) {
  if (params.temperature <= 0) return argmax(logits);
  return draw(token_law(logits, params), counter_uniform(params.seed, position));
}

void check_sampling(const SamplingParams& params, int64_t vocab) {
  const auto within = [](const char* name, double value, double low, double high) {
    AERIE_CHECK(value >= low && value <= high, "{} must be between {} and {}, not {}", name, low,
                high, value);
  };
  within("temperature", params.temperature, 0, 100);
  within("top_p", params.top_p, 1e-9, 1);
  within("min_p", params.min_p, 0, 1);
  within("repetition_penalty", params.repetition_penalty, 1e-3, 1e3);
  within("frequency_penalty", params.frequency_penalty, -2, 2);
  within("presence_penalty", params.presence_penalty, -2, 2);
  AERIE_CHECK(params.top_k >= 0, "top_k must be 0 (all) or more, not {}", params.top_k);
  AERIE_CHECK(params.min_tokens >= 0, "min_tokens must be 0 or more, not {}", params.min_tokens);
  AERIE_CHECK(params.logprobs >= -1 && params.logprobs <= vocab,
              "logprobs must be at most the vocabulary of {}, not {}", vocab, params.logprobs);
  for (const LogitBias& one : params.logit_bias) {
    AERIE_CHECK(one.id >= 0 && one.id < vocab, "logit_bias names token {}, the vocabulary has {}",
                one.id, vocab);
    within("logit_bias", one.bias, -100, 100);
  }
}

std::vector<int32_t> choose_tokens(const Tensor& logits, std::span<const RowRule> rules) {
  const Tensor rows = logits.to(at::kCPU).contiguous();
  const float* data = rows.const_data_ptr<float>();
  const size_t width = rows.size(1);
  std::vector<int32_t> chosen(rules.size());
  parallel_for(0, static_cast<int64_t>(rules.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowRule& rule = rules[row];
      const std::span<const float> own(data + row * width, width);
      if (!changes_logits(*rule.params)) {
        chosen[row] = choose_token(own, *rule.params, rule.position);
        continue;
      }
      std::vector<float> changed(own.begin(), own.end());
      change_logits(changed, *rule.params, rule.past);
      chosen[row] = choose_token(changed, *rule.params, rule.position);
    }
  });
  return chosen;
}

std::vector<int32_t> argmax_rows(const Tensor& logits) {
  const SamplingParams greedy;
  return choose_tokens(logits, std::vector<RowRule>(logits.size(0), {&greedy, 0}));
}

}  // namespace aerie
