// Chain speculation: the last token and the drafter's guesses in one target forward; the longest
// run that the target agrees with stays, plus the target's own next token.
#pragma once
#include <memory>

#include "decoding/decoder.h"
#include "decoding/drafter.h"

namespace aerie {

class ChainDecoder : public Decoder {
 public:
  /// At most `draft_tokens` guesses a sequence and step.
  ChainDecoder(std::unique_ptr<Drafter> drafter, int64_t draft_tokens);

  int64_t lookahead() const override { return draft_tokens_; }
  std::vector<int64_t> capture_layers() const override { return drafter_->capture_layers(); }
  void attach(int64_t pages) override { drafter_->attach(pages); }
  std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget budget) override;
  std::vector<Verdict> accept(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                              const StepOutput& output) override;
  void forget(const Sequence& sequence) override { drafter_->forget(sequence); }
  double draft_seconds() const override { return draft_seconds_; }

 private:
  void observe(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
               std::span<const Verdict> verdicts, const StepOutput& output);

  std::unique_ptr<Drafter> drafter_;
  int64_t draft_tokens_;
  double draft_seconds_ = 0;
};

}  // namespace aerie
