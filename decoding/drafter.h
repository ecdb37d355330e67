// Who guesses. The speculative decoder verifies whatever a drafter says; a drafter only has to be
// deterministic given what it has observed.
#pragma once
#include <limits>
#include <span>
#include <vector>

#include "decoding/sequence.h"
#include "kernels/ragged.h"

namespace aerie {

/// Rows that the target has made final for one sequence.
struct Observation {
  Sequence* sequence;
  int64_t first_position = 0;        ///< of the first row
  Tensor captured;                   ///< [n,A*C] states of those rows; undefined if none were asked
  std::vector<int32_t> next_tokens;  ///< [n] the token after each row
  bool guess_next = false;           ///< the sequence decodes on: guesses may be asked for
};

/// How far to guess for one sequence.
struct GuessShape {
  int64_t depth = 0;  ///< longest run; 0: no guess
  int64_t width = 1;  ///< children tried of a guess, and guesses followed on a level; 1: a chain
  int64_t nodes = 0;  ///< most guesses in all
};

/// Guesses for the tokens after the last known one; a guess comes after the one it follows.
struct Guess {
  std::vector<int32_t> tokens;
  std::vector<int32_t> parents;  ///< index of the guess before each, -1: the last known token. []:
                                 ///< a chain
  std::vector<float> chances;    ///< that the guess and all before it hold, as the drafter sees it;
                                 ///< []: it cannot say
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual std::vector<int64_t> capture_layers() const { return {}; }
  /// Size of the target's cache, whose page ids and slots are the drafter's too, and whether texts
  /// that begin alike share pages: then prompts are wanted in the drafter's cache soon.
  virtual void attach(int64_t /*pages*/, bool /*share_prefixes*/) {}
  /// Every row of every prompt and every accepted row, each once and in order. A prompt whose
  /// beginning is shared with an earlier one begins behind it.
  virtual void observe(std::span<const Observation> observations) = 0;
  /// Guesses within shapes[s] for each sequence; none where the depth is 0.
  virtual std::vector<Guess> guess(std::span<Sequence* const> sequences,
                                   std::span<const GuessShape> shapes) = 0;
  virtual void forget(const Sequence& /*sequence*/) {}
  /// Rows of the sequence that were observed and are yet to be written before it can guess.
  virtual int64_t backlog(const Sequence& /*sequence*/) const { return 0; }
  /// Rows of the sequence from its first one on that the drafter's own cache holds for good.
  virtual int64_t cached_rows(const Sequence& /*sequence*/) const {
    return std::numeric_limits<int64_t>::max();
  }
};

}  // namespace aerie
