// Diffusion in a window (WeDLM, arXiv 2512.22737): masks behind the known text are fed in the same
// causal forward as everything else, and the sure ones are filled, several in a step. The run of
// filled tokens at the window's beginning has final keys and values.
//
// As the paper has it, that run is committed. Exact diffusion also feeds the last known token, and
// the target's own rows verify the run as they verify a draft's guesses: what comes out is what
// autoregressive decoding gives, and masks only decide how fast.
#pragma once
#include <unordered_map>

#include "decoding/decoder.h"
#include "decoding/window.h"

namespace aerie {

struct Diffusion {
  int64_t window = 8;  ///< masks behind the filled run
  FillRule fill = {};
  bool exact = true;
  int64_t mask_token = -1;  ///< whose embedding masks have
};

class DiffusionDecoder : public Decoder {
 public:
  /// Throws Error for numbers that are out of range.
  explicit DiffusionDecoder(const Diffusion& rule);

  int64_t lookahead() const override { return 2 * rule_.window; }
  /// Without verification what is decided depends on the window, which is never narrowed then. (One
  /// row more: after an eviction the last known token's may be missing.)
  int64_t least_rows() const override { return rule_.exact ? 1 : 2 * rule_.window + 1; }
  int64_t pending() const override { return rule_.exact ? 1 : 0; }
  std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget budget) override;
  std::vector<Verdict> accept(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                              const StepOutput& output) override;
  /// An evicted sequence goes on with its window.
  void forget(const Sequence& sequence) override;

 private:
  /// What the target said in the rows of a chunk that have logits.
  struct Answer {
    std::span<const int32_t> tokens;
    std::span<const float> entropies;  ///< of masks
  };
  Chunk chunk_of(const Sequence& sequence, const Window& window) const;
  Verdict read_prompt(Sequence& sequence, const Chunk& chunk, const Answer& answer);
  Verdict judge(Sequence& sequence, const Chunk& chunk, const Answer& answer);
  /// Fills masks from place `from` on; `answer` is of the window's masks, in order.
  void fill(Window& window, int64_t from, const Answer& answer) const;

  Diffusion rule_;
  std::unordered_map<int64_t, Window> windows_;  // by sequence: places behind what it knows
};

}  // namespace aerie
