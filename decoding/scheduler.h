// Who runs, and with how many rows. Decoding sequences come first with one row each; prompts are
// cut to fill what is left (SplitFuse, arXiv 2401.08671), oldest first, so at most one prompt is
// ever half way; guesses get only what a waiting prompt can spare.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "decoding/decoder.h"
#include "decoding/page_table.h"

namespace aerie {

/// Rows of one forward where latency does not matter: enough to keep the matrix units busy.
inline constexpr int64_t kRowBudget = 512;

struct SchedulerLimits {
  int64_t max_sequences = 16;       ///< running at a time
  int64_t row_budget = kRowBudget;  ///< rows of one forward
};

/// Rows of a prompt for this step.
struct PromptCut {
  Sequence* sequence;
  int64_t rows;
};

class Scheduler {
 public:
  Scheduler(SchedulerLimits limits, int64_t pages);

  void submit(std::unique_ptr<Sequence> sequence);
  /// Lets waiting sequences in, in order, while each can be sure of all the pages it may ever need:
  /// nobody is evicted later.
  void admit();
  /// Decoding sequences of this step; those served longest ago, if not all fit the budget.
  std::vector<Sequence*> pick_decodes();
  RowBudget decode_budget(int64_t decodes) const;
  /// Prompts to go on with, `rows` together at most.
  std::vector<PromptCut> cut_prompts(int64_t rows) const;
  /// Takes a finished or aborted sequence out, running or waiting. Null if there is none.
  std::unique_ptr<Sequence> remove(int64_t id);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  std::vector<Sequence*> running() const;
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  const SchedulerLimits& limits() const { return limits_; }

 private:
  SchedulerLimits limits_;
  int64_t pages_, promised_ = 0;
  int64_t step_ = 0;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
};

}  // namespace aerie
