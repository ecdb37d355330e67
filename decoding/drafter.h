// Who guesses. The chain decoder verifies whatever a drafter says; a drafter only has to be
// deterministic given what it has observed.
#pragma once
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
  bool guess_next = false;           ///< the sequence decodes on: guesses will be asked for
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  virtual std::vector<int64_t> capture_layers() const { return {}; }
  /// Size of the target's cache; page ids and slots of sequences may be shared.
  virtual void attach(int64_t /*pages*/) {}
  /// Every row of every prompt and every accepted row, each once and in order.
  virtual void observe(std::span<const Observation> observations) = 0;
  /// At most depths[s] guesses for the tokens after the last known one.
  virtual std::vector<std::vector<int32_t>> guess(std::span<Sequence* const> sequences,
                                                  std::span<const int64_t> depths) = 0;
  virtual void forget(const Sequence& /*sequence*/) {}
};

}  // namespace aerie
