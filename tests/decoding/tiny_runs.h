// Requests to tiny real networks, and what an engine makes of them.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "decoding/engine.h"
#include "target_models/model.h"
#include "tests/testing.h"

namespace aerie::testing {

inline std::unique_ptr<TargetModel> tiny_target(const std::string& name) {
  return load_target(testing::golden_dir() / "models" / name, at::kCPU, at::kBFloat16);
}

inline std::vector<Request> tiny_requests(int64_t count, uint64_t seed, bool sampled) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<Request> requests(count);
  for (Request& request : requests) {
    request.prompt.resize(1 + random() % 50);
    for (int32_t& token : request.prompt) token = static_cast<int32_t>(3 + random() % 90);
    request.max_new_tokens = 1 + random() % 60;
    if (random() % 2) request.stop_tokens = {2, 40};
    if (!sampled) continue;
    request.sampling.temperature = 0.8;
    request.sampling.top_k = 30;
    request.sampling.top_p = 0.95;
    request.sampling.seed = random();
  }
  return requests;
}

inline std::vector<std::vector<int32_t>> outputs(const TargetModel& target, Decoder& decoder,
                                                 const std::vector<Request>& requests,
                                                 SchedulerLimits limits) {
  Engine engine(target, decoder, {limits, pages_for_requests(requests, limits.max_sequences)});
  std::vector<std::vector<int32_t>> all;
  for (Completion& completion : run_requests(engine, requests)) {
    all.push_back(std::move(completion.tokens));
  }
  engine.check_invariants();
  EXPECT_EQ(engine.pages().free(), engine.pages().total());
  return all;
}

}  // namespace aerie::testing
