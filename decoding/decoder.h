// A way of decoding: what rows a sequence feeds next, and what the target's answer means.
#pragma once
#include <span>
#include <vector>

#include "decoding/batch.h"
#include "decoding/sequence.h"

namespace aerie {

/// The most rows that all chunks of one `propose` may have together. There is always room for one
/// row a sequence.
struct RowBudget {
  int64_t rows = 0;
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
  /// Layers whose states `accept` wants to see.
  virtual std::vector<int64_t> capture_layers() const { return {}; }
  /// Called once, before anything else: the cache's size. A decoder with a cache of its own uses
  /// the target's slots in it.
  virtual void attach(int64_t /*pages*/) {}

  /// One chunk for each sequence. Pages for `lookahead` rows are there already.
  virtual std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget budget) = 0;
  /// One verdict for each chunk, prompts included. The engine appends and commits afterwards.
  virtual std::vector<Verdict> accept(std::span<Sequence* const> sequences,
                                      std::span<const Chunk> chunks, const StepOutput& output) = 0;
  /// The sequence is finished, aborted or evicted.
  virtual void forget(const Sequence& /*sequence*/) {}
  /// Seconds spent in a draft model so far.
  virtual double draft_seconds() const { return 0; }
};

}  // namespace aerie
