// Who runs, with how many rows, on whose pages. SplitFuse (arXiv 2401.08671): every decoding
// sequence gets its row, prompts are cut to fill what is left, guesses get only what a waiting
// prompt can spare. Four budgets bound a step: rows, rows with logits, rows of the draft model, and
// pages of the cache.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "decoding/decoder.h"
#include "decoding/page_table.h"

namespace aerie {

/// Rows of one forward where latency does not matter: enough to keep the matrix units busy.
inline constexpr int64_t kRowBudget = 512;

enum class Policy {
  kSplitFuse,
  kPrefillFirst,  ///< whole prompts, and nothing decodes beside them
  kStatic         ///< a batch is let in when the one before is done, and runs to its end
};
/// "splitfuse", "prefill-first" or "static". Throws Error for anything else.
Policy parse_policy(const std::string& name);

struct SchedulerLimits {
  int64_t max_sequences = 16;                  ///< running at a time
  int64_t row_budget = kRowBudget;             ///< rows of one forward
  int64_t logit_rows = RowBudget::kUnlimited;  ///< of those, rows whose logits are computed
  int64_t draft_rows = RowBudget::kUnlimited;  ///< rows of the draft model beside one forward
  Policy policy = Policy::kSplitFuse;
  /// While sequences decode, a forward has no more rows than the measured table (EngineOptions)
  /// allows in this time, but always one for each of them and kLeastRows. 0: no target.
  double inter_token_seconds = 0;
  double prompt_share = 0.25;  ///< of the rows left by decoding sequences, kept from guesses
  int64_t long_prompts = 2;    ///< prompts that may be half way at a time
  /// Lets sequences in while there is room for their text so far, not for all that they may become.
  /// Where pages run out the newest one loses its own and comes again later; its output stays.
  bool evict = false;
  int64_t max_evictions = 3;    ///< of one request; from then on all its pages are kept for it
  bool share_prefixes = false;  ///< texts that begin alike share pages

  static constexpr int64_t kLeastRows = 16;
};

/// Rows of a prompt for this step.
struct PromptCut {
  Sequence* sequence;
  int64_t rows;
};

/// A step: admit(), pick_decodes(), then reserve_ahead() and decode_budget() for the guesses, then
/// cut_prompts(). Nothing is allocated once the largest batch was seen.
class Scheduler {
 public:
  using OnEvict = std::function<void(const Sequence&)>;
  /// `table` must outlive it. `on_evict` hears of sequences that lose their pages.
  Scheduler(SchedulerLimits limits, PageTable& table, OnEvict on_evict = {});

  void submit(std::unique_ptr<Sequence> sequence);
  /// Lets waiting sequences in, in order. The last `private_pages` of a shared beginning are
  /// computed anew.
  void admit(int64_t private_pages = 0);
  /// Sequences that decode in this step, each with pages for `rows_each` rows, as far as it can
  /// ever use them: those served longest ago, if not all fit. `cost` bounds the step where there is
  /// a target for the time between tokens.
  const std::vector<Sequence*>& pick_decodes(const StepCost* cost = nullptr, int64_t rows_each = 1);
  /// Pages for `rows` behind the last token of the picked sequences, as far as there are any.
  void reserve_ahead(int64_t rows);
  RowBudget decode_budget() const;
  /// Prompts to go on with when decoding takes `rows` and `logit_rows`; pages are reserved.
  const std::vector<PromptCut>& cut_prompts(int64_t rows, int64_t logit_rows);
  /// Nothing could run: takes the pages of the newest sequence. False if that helps nobody.
  bool make_room();
  /// Takes a finished or aborted sequence out, running or waiting. Null if there is none.
  std::unique_ptr<Sequence> remove(int64_t id);

  bool idle() const { return running_.empty() && waiting_.empty(); }
  /// Sequences that were let in, in order of arrival.
  const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  const SchedulerLimits& limits() const { return limits_; }
  int64_t evictions() const { return evictions_; }

 private:
  bool let_in(int64_t private_pages);
  bool reserve(Sequence& sequence, int64_t tokens);
  int64_t rows_in_time(const StepCost& cost) const;
  int64_t free_for(const Sequence& sequence) const;
  int64_t kept_pages() const;
  Sequence* newest_that_can_lose() const;
  void evict(Sequence& sequence);
  void cut_whole_prompts();
  void cut_to_fit(int64_t rows, int64_t logit_rows);
  int64_t rows_with_pages(const Sequence& sequence) const;

  SchedulerLimits limits_;
  PageTable& table_;
  OnEvict on_evict_;
  int64_t kept_ = 0;  // pages that promised sequences may still ask for
  int64_t step_ = 0, budget_ = 0, evictions_ = 0;
  int64_t rows_each_ = 1;  // that the step's decodes are granted
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<Sequence*> decodes_;
  std::vector<PromptCut> cuts_;
};

}  // namespace aerie
