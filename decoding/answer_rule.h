// How `aerie resample` draws its answers: what is drawn depends on the seed and the row's id only,
// whatever is answered beside it.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/files.h"

namespace aerie {

struct AnswerRule {
  int64_t max_new_tokens = 512;
  std::vector<double> temperatures{0};  ///< one; or the least and the most, drawn evenly by row
  uint64_t base_seed = 0;

  double temperature(const std::string& id) const {
    if (temperatures.size() == 1) return temperatures.front();
    const uint64_t drawn = hash_bytes(fmt::format("{}/{}/temperature", base_seed, id));
    const double share = static_cast<double>(drawn >> 11) * 0x1p-53;
    return temperatures.front() + share * (temperatures.back() - temperatures.front());
  }
  /// Every turn draws from its own stream. Of 63 bits: servers take signed integers.
  uint64_t seed(const std::string& id, int64_t turn) const {
    return hash_bytes(fmt::format("{}/{}/{}", base_seed, id, turn)) >> 1;
  }
};

}  // namespace aerie
