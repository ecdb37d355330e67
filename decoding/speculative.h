// Speculation: the last token and a drafter's guesses in one target forward; the longest path that
// the target agrees with stays, plus the target's own next token. Guesses are a chain or a tree.
#pragma once
#include <algorithm>
#include <memory>

#include "decoding/adaptive_depth.h"
#include "decoding/decoder.h"
#include "decoding/drafter.h"

namespace aerie {

/// How far to guess.
struct Speculation {
  int64_t draft_tokens = 5;  ///< longest run of guesses
  int64_t width = 1;         ///< children tried of a guess; more than 1: a tree (EAGLE-2)
  int64_t nodes = 0;         ///< guesses of a tree that are verified; 0: draft_tokens
  bool adaptive = false;     ///< only guesses that pay; needs the engine's table of step costs
};

class SpeculativeDecoder : public Decoder {
 public:
  /// Throws Error for numbers that are out of range.
  SpeculativeDecoder(std::unique_ptr<Drafter> drafter, const Speculation& speculation);

  int64_t lookahead() const override { return std::max(rule_.nodes, rule_.draft_tokens); }
  std::vector<int64_t> capture_layers() const override { return drafter_->capture_layers(); }
  void attach(int64_t pages, bool share_prefixes) override {
    drafter_->attach(pages, share_prefixes);
  }
  std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget budget) override;
  std::vector<Verdict> accept(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                              const StepOutput& output) override;
  void forget(const Sequence& sequence) override { drafter_->forget(sequence); }
  int64_t cached_rows(const Sequence& sequence) const override {
    return drafter_->cached_rows(sequence);
  }
  double draft_seconds() const override { return draft_seconds_; }

 private:
  void choose_shapes(std::span<Sequence* const> sequences, const RowBudget& budget);
  std::vector<Guess> draft(std::span<Sequence* const> sequences, const RowBudget& budget);
  void count_guesses(const Chunk& chunk, const Verdict& verdict, DraftStats& stats);
  void observe(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
               std::span<const Verdict> verdicts, const StepOutput& output);

  std::unique_ptr<Drafter> drafter_;
  Speculation rule_;
  AdaptiveDepth adaptive_;
  std::vector<int64_t> limits_, late_rows_, depths_;
  std::vector<GuessShape> shapes_;
  double draft_seconds_ = 0;
};

}  // namespace aerie
