// Steps of the planner without a model: every sequence gets one token a step. What is measured is
// the planner's alone.
#pragma once
#include <memory>
#include <numeric>
#include <vector>

#include "decoding/adaptive_depth.h"
#include "decoding/scheduler.h"

namespace aerie::testing {

class PlannerLoop {
 public:
  struct Options {
    int64_t sequences = 1;
    bool adaptive = false;      ///< depths of guesses are chosen too
    bool prefix_cache = false;  ///< complete pages are published
    double inter_token_seconds = 0;
  };
  static constexpr int64_t kPrompt = 40, kMostSteps = 600;

  explicit PlannerLoop(const Options& options)
      : options_(options),
        table_(options.sequences * PageTable::pages_for(kLongest)),
        scheduler_(limits_of(options), table_),
        cost_({{1, 0.02}, {16, 0.024}, {512, 0.3}}, {{1, 0.004}, {128, 0.04}}, {1e-6, 2e-7}),
        depth_(kAhead) {
    for (int64_t id = 0; id < options.sequences; ++id) {
      auto sequence = std::make_unique<Sequence>();
      sequence->id = id;
      sequence->request.prompt.assign(kPrompt, static_cast<int32_t>(id));
      sequence->request.max_new_tokens = kLongest - kPrompt;
      sequence->tokens = sequence->request.prompt;
      sequence->tokens.reserve(kLongest);  // the text is the request's, not the planner's
      sequence->pages.reserve(PageTable::pages_for(kLongest));  // as Engine::submit does
      scheduler_.submit(std::move(sequence));
    }
  }

  /// Until the prompts are through and the buffers have grown.
  void warm_up() {
    for (int i = 0; i < 200; ++i) step();
  }

  /// As Engine::step takes it. At most kMostSteps.
  void step() {
    scheduler_.admit();
    const std::vector<Sequence*>& decodes = scheduler_.pick_decodes(&cost_);
    scheduler_.reserve_ahead(kAhead);
    RowBudget budget = scheduler_.decode_budget();
    budget.cost = &cost_;
    if (options_.adaptive) {
      depth_limits_.assign(decodes.size(), kAhead);
      late_rows_.assign(decodes.size(), 0);
      depth_.choose(decodes, depth_limits_, late_rows_, budget, depths_);
    }
    const int64_t count = static_cast<int64_t>(decodes.size());
    const std::vector<PromptCut>& cuts = scheduler_.cut_prompts(count, count);
    for (Sequence* sequence : decodes) commit(*sequence, 1);
    for (const PromptCut& cut : cuts) commit(*cut.sequence, cut.rows);
  }

 private:
  static constexpr int64_t kAhead = 5, kLongest = kPrompt + kMostSteps + kAhead + 2;

  static SchedulerLimits limits_of(const Options& options) {
    SchedulerLimits limits;
    limits.max_sequences = options.sequences;
    limits.row_budget = 2 * options.sequences + kPrompt;
    limits.inter_token_seconds = options.inter_token_seconds;
    limits.share_prefixes = options.prefix_cache;
    return limits;
  }
  void commit(Sequence& sequence, int64_t rows) {
    keep_.resize(rows);
    std::iota(keep_.begin(), keep_.end(), 0);
    sequence.written = sequence.committed + rows;
    table_.commit(sequence, keep_);
    if (sequence.committed == sequence.known()) sequence.tokens.push_back(1);
    if (options_.prefix_cache) table_.publish(sequence, sequence.committed);
  }

  const Options options_;
  PageTable table_;
  Scheduler scheduler_;
  const StepCost cost_;
  AdaptiveDepth depth_;
  std::vector<int64_t> depth_limits_, late_rows_, depths_;
  std::vector<int32_t> keep_;
};

}  // namespace aerie::testing
