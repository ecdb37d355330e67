// Guesses without a model (prompt lookup): what followed the last words when they were said before,
// in the prompt or in the output. Free of cost where nothing repeats.
#pragma once
#include "decoding/drafter.h"

namespace aerie {

class NgramDrafter : public Drafter {
 public:
  /// Looks for the last `longest` tokens, then for fewer, down to `shortest`; of several places the
  /// latest counts. Throws Error unless 1 <= shortest <= longest.
  explicit NgramDrafter(int64_t shortest = 2, int64_t longest = 4);

  void observe(std::span<const Observation>) override {}  // the text itself is all it needs
  std::vector<Guess> guess(std::span<Sequence* const> sequences,
                           std::span<const GuessShape> shapes) override;

 private:
  int64_t shortest_, longest_;
};

}  // namespace aerie
