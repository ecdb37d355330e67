// A way of decoding: what rows a sequence feeds next, and what the target's answer means.
#pragma once
#include <limits>
#include <span>
#include <vector>

#include "decoding/batch.h"
#include "decoding/sequence.h"
#include "decoding/step_cost.h"

namespace aerie {

/// What all chunks of one `propose` may have together. There is always room for the decoder's
/// `least_rows` of each sequence, their logits included.
struct RowBudget {
  int64_t rows = 0;
  int64_t logit_rows = kUnlimited;
  int64_t draft_rows = kUnlimited;  ///< rows that a draft model may run to make guesses
  int64_t prompt_rows = 0;         ///< rows of prompts that this step is likely to have beside them
  const StepCost* cost = nullptr;  ///< of a forward, where it was measured

  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
};

/// The target's answer to one step. Chunk c's rows begin at batch.row_start[c], its logits at
/// batch.logit_start[c].
struct StepOutput {
  const ForwardOutput& forward;
  const Batch& batch;
};

/// What becomes of a chunk.
struct Verdict {
  std::vector<int32_t> keep;  ///< rows of the chunk whose keys and values stay, ascending
  std::vector<int32_t> emit;  ///< new tokens
  FinishReason finish = FinishReason::kRunning;
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  /// Rows that a chunk may have beyond the pending token.
  virtual int64_t lookahead() const { return 0; }
  /// Rows, all of them with logits, that a sequence has to be granted in a step, or it waits.
  virtual int64_t least_rows() const { return 1; }
  /// Known tokens whose rows are not in the cache between two steps: the last one, or none.
  virtual int64_t pending() const { return 1; }
  /// Layers whose states `accept` wants to see.
  virtual std::vector<int64_t> capture_layers() const { return {}; }
  /// Called once, before anything else: the cache's size, and whether texts that begin alike share
  /// pages. A decoder with a cache of its own uses the target's slots in it.
  virtual void attach(int64_t /*pages*/, bool /*share_prefixes*/) {}

  /// One chunk for each sequence. Where the cache has room, pages for `lookahead` rows behind the
  /// pending token are there already; the sequence's `pages` say how far they reach.
  virtual std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget budget) = 0;
  /// One verdict for each chunk, prompts included. The engine appends and commits afterwards.
  virtual std::vector<Verdict> accept(std::span<Sequence* const> sequences,
                                      std::span<const Chunk> chunks, const StepOutput& output) = 0;
  /// The sequence is finished or aborted; if its `finish` says that it runs, evicted.
  virtual void forget(const Sequence& /*sequence*/) {}
  /// Rows of the sequence from its first one on that a cache of the decoder's own holds for good:
  /// only pages that are complete everywhere are shared with other sequences.
  virtual int64_t cached_rows(const Sequence& /*sequence*/) const {
    return std::numeric_limits<int64_t>::max();
  }
  /// Seconds spent in a draft model so far.
  virtual double draft_seconds() const { return 0; }
};

}  // namespace aerie
