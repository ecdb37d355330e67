// How the packs of an optimizer step fall to the ranks of a run.
#pragma once
#include <cstdint>

namespace aerie {

/// A step takes the next `packs` packs of the data; rank r takes every ranks-th of them, from the
/// r-th on. So a run takes the same steps on any number of ranks.
struct StepShare {
  int rank = 0, ranks = 1;
  int64_t packs = 1;  ///< of a step, all ranks together

  /// Packs of a step that are this rank's; 0 where there are more ranks than packs.
  int64_t own() const { return (packs - rank + ranks - 1) / ranks; }
  /// Steps that so many packs make; the last one may have fewer.
  int64_t steps(int64_t all_packs) const { return (all_packs + packs - 1) / packs; }
};

}  // namespace aerie
