// Requests, decoders and engines at random, and what a request gives by itself.
#pragma once
#include <memory>
#include <random>
#include <vector>

#include "decoding/autoregressive.h"
#include "decoding/diffusion.h"
#include "decoding/engine.h"
#include "decoding/speculative.h"
#include "tests/decoding/fake_drafter.h"
#include "tests/decoding/fake_model.h"
#include "tests/decoding/solo.h"

namespace aerie::testing {

inline Request request_of(std::vector<int32_t> prompt, int64_t max_new_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_new_tokens = max_new_tokens;
  return request;
}

inline std::vector<Request> random_requests(std::mt19937& random, int64_t count, int64_t longest) {
  std::vector<Request> requests;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<int32_t> prompt(1 + random() % longest);
    for (int32_t& token : prompt) token = static_cast<int32_t>(random() % 50);
    // Some begin alike.
    if (random() % 2) std::fill_n(prompt.begin(), prompt.size() * (random() % 4) / 3, 11);
    Request request = request_of(std::move(prompt), 1 + random() % 30);
    if (random() % 2) request.stop_tokens = {3, 17};
    if (random() % 2) {
      request.sampling.temperature = 0.7;
      request.sampling.seed = random();
      if (random() % 2) request.sampling.top_p = 0.8;
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

inline std::unique_ptr<Decoder> random_diffusion(const FakeModel& model, std::mt19937& random,
                                                 bool exact) {
  const double thresholds[] = {0, 3, 100};
  Diffusion rule{1 + static_cast<int64_t>(random() % 6)};
  rule.fill = {thresholds[random() % 3], random() % 2 ? 0.1 : 0};
  rule.exact = exact;
  rule.mask_token = model.mask_token;
  return std::make_unique<DiffusionDecoder>(rule);
}

inline std::unique_ptr<Decoder> random_decoder(const FakeModel& model, std::mt19937& random) {
  if (model.mask_token >= 0 && random() % 4 == 0) return random_diffusion(model, random, true);
  const int64_t draft_tokens = random() % 6;
  if (draft_tokens == 0) return std::make_unique<AutoregressiveDecoder>();
  Speculation rule{draft_tokens};
  if (random() % 2) {
    rule.width = 2;
    rule.nodes = 1 + random() % 12;
  }
  rule.adaptive = random() % 3 == 0;
  const double skill = static_cast<double>(random() % 5) / 4;
  return std::make_unique<SpeculativeDecoder>(std::make_unique<FakeDrafter>(model, skill), rule);
}

/// A forward that takes a fixed time and some for each row; a row of logits costs as much again.
inline StepCost linear_cost(double fixed, double row) {
  return StepCost({{1, fixed + row}, {101, fixed + 101 * row}}, {{1, row}, {101, 101 * row}});
}

inline EngineOptions random_options(std::mt19937& random, const std::vector<Request>& requests) {
  EngineOptions options;
  options.limits = {static_cast<int64_t>(1 + random() % 8),
                    static_cast<int64_t>(1 + random() % 40)};
  if (random() % 2) options.limits.logit_rows = 1 + random() % 12;
  if (random() % 2) options.limits.draft_rows = random() % 12;
  if (random() % 4 == 0)
    options.limits.policy = random() % 2 ? Policy::kPrefillFirst : Policy::kStatic;
  options.limits.long_prompts = 1 + random() % 3;
  options.limits.evict = random() % 2;
  options.limits.share_prefixes = random() % 2;
  options.pages = pages_for_requests(requests, 1) + static_cast<int64_t>(random() % 20);
  options.cost = linear_cost(10, (random() % 30) / 10.0);
  if (random() % 3 == 0) options.limits.inter_token_seconds = 10 + random() % 30;
  return options;
}

}  // namespace aerie::testing
