// How well a draft did, measured by decoding with it.
#pragma once
#include <vector>

namespace aerie {

struct Acceptance {
  double length = 0;  ///< tokens emitted per target forward, bonus included (1 = no gain)
  std::vector<double>
      rate_by_depth;  ///< share of proposals accepted at depth k, where depth k was reached
};

}  // namespace aerie
