// How many guesses pay: as many as raise the tokens that a step is likely to give faster than its
// time. Each guess is worth the chance that it and all before it hold, learnt from what held; the
// time comes from the measured table. There is no threshold to switch at: under load rows become
// dear, and the depth falls, to 0 if need be; when the load goes it comes back.
#pragma once
#include <span>
#include <vector>

#include "decoding/decoder.h"
#include "decoding/offer.h"

namespace aerie {

class AdaptiveDepth {
 public:
  explicit AdaptiveDepth(int64_t most);

  /// Depths for the sequences, limits[s] at most, and budget.rows together; late_rows[s] are to be
  /// written before s can guess, beyond what each step brings. Without a table (budget.cost) every
  /// depth is as long as its limit.
  void choose(std::span<Sequence* const> sequences, std::span<const int64_t> limits,
              std::span<const int64_t> late_rows, const RowBudget& budget,
              std::vector<int64_t>& depths);
  /// Whether the guess at `depth` (from 0) held, when all before it did.
  void judged(int64_t depth, bool held);
  /// Drafting `levels` deep for `sequences`, and writing `late_rows` before, took so long.
  void drafted(int64_t sequences, int64_t levels, int64_t late_rows, double seconds,
               const StepCost& cost);

  /// Chance that a guess at `depth` (from 0) of the sequence holds when all before it do.
  double chance(const Sequence& sequence, int64_t depth) const;
  /// Seconds of drafting `levels` deep for `sequences`.
  double draft_seconds(int64_t sequences, int64_t levels, const StepCost& cost) const;

 private:
  struct Slot {
    float survival;
    int32_t sequence, depth;
    int32_t late_rows;  // of the sequence, at its first depth
  };
  size_t pick(int64_t sequences, const RowBudget& budget);

  std::vector<double> chances_;  // by depth, over all sequences
  // Over the time of a step: a level, by the logarithm of the batch (0: not known); a late row,
  // over that of one row.
  std::vector<double> ratios_;
  double late_ratio_;
  std::vector<Slot> slots_;  // kept between steps: no allocation
  std::vector<Offer> offers_;
};

}  // namespace aerie
