// How well a draft did, measured by decoding with it.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace aerie {

struct Acceptance {
  /// What one prompt contributed: length is the ratio of the sums.
  struct Prompt {
    int64_t decoded = 0, forwards = 0;
  };
  double length = 0;  ///< tokens emitted per target forward, bonus included (1 = no gain)
  std::vector<double>
      rate_by_depth;  ///< share of proposals accepted at depth k, where depth k was reached
  std::vector<Prompt> prompts = {};  ///< in the order in which they were given
  std::optional<double> tree_length =
      {};  ///< `length` of guessing in trees, where it was asked for
};

}  // namespace aerie
