// What a request must give, computed token by token without engine, cache or guesses.
#pragma once
#include <algorithm>
#include <vector>

#include "tests/decoding/fake_model.h"

namespace aerie::testing {

inline std::vector<int32_t> solo(const FakeModel& model, const Request& request) {
  std::vector<int32_t> text = request.prompt, out;
  while (static_cast<int64_t>(out.size()) < request.max_new_tokens) {
    std::vector<float> logits = model.logits_after(text);
    change_logits(logits, request.sampling, {request.prompt, out, {}, request.stop_tokens});
    const int32_t token = choose_token(logits, request.sampling, static_cast<int64_t>(text.size()));
    text.push_back(token);
    out.push_back(token);
    const std::vector<int64_t>& stops = request.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) break;
  }
  return out;
}

}  // namespace aerie::testing
