// How prompts are cut into the rows that decoding leaves of a step.
#include <algorithm>

#include "decoding/scheduler.h"

namespace aerie {

const std::vector<PromptCut>& Scheduler::cut_prompts(int64_t rows, int64_t logit_rows) {
  cuts_.clear();
  if (limits_.policy == Policy::kSplitFuse) {
    cut_to_fit(budget_ - rows, limits_.logit_rows - logit_rows);
  } else if (decodes_.empty()) {
    cut_whole_prompts();
  }
  return cuts_;
}

// As many whole prompts as fit the budget, the first one whatever its length.
void Scheduler::cut_whole_prompts() {
  int64_t left = budget_;
  for (const auto& sequence : running_) {
    if (!sequence->catching_up()) continue;
    const int64_t rows = sequence->missing();
    const bool fits = rows <= left && static_cast<int64_t>(cuts_.size()) < limits_.logit_rows;
    if (!cuts_.empty() && !fits) break;
    if (!reserve(*sequence, sequence->known())) break;
    cuts_.push_back({sequence.get(), rows});
    left -= rows;
  }
}

int64_t Scheduler::rows_with_pages(const Sequence& sequence) const {
  return (static_cast<int64_t>(sequence.pages.size()) + free_for(sequence)) * KvPool::kPageSize -
         sequence.committed;
}

// In order of arrival. A prompt that will not be done takes at most half of the step while others
// wait, so that short ones slip past it; what nobody else wants is its own again.
void Scheduler::cut_to_fit(int64_t rows, int64_t logit_rows) {
  int64_t prompts = 0, half_way = 0;
  for (const auto& sequence : running_) {
    if (!sequence->catching_up()) continue;
    ++prompts;
    half_way += sequence->committed > sequence->shared_rows;
  }
  const int64_t cap =
      prompts > 1 && limits_.long_prompts > 1 ? std::max(KvPool::kPageSize, budget_ / 2) : rows;
  for (const auto& sequence : running_) {
    if (rows <= 0) break;
    if (!sequence->catching_up()) continue;
    const int64_t need = sequence->missing();
    int64_t take = std::min({need, rows, rows_with_pages(*sequence)});
    if (take == need && logit_rows <= 0) --take;
    if (take < need) take = std::min(take, cap);
    const bool started = sequence->committed > sequence->shared_rows;
    if (take <= 0 || (take < need && !started && half_way >= limits_.long_prompts)) continue;
    reserve(*sequence, sequence->committed + take);
    cuts_.push_back({sequence.get(), take});
    half_way += (take < need) - started;
    logit_rows -= take == need;
    rows -= take;
  }
  for (PromptCut& cut : cuts_) {
    const int64_t need = cut.sequence->missing() - cut.rows;
    if (rows <= 0 || need <= 0) continue;
    int64_t more = std::min({need, rows, rows_with_pages(*cut.sequence) - cut.rows});
    if (more == need && logit_rows <= 0) --more;
    if (more <= 0) continue;
    logit_rows -= more == need;
    reserve(*cut.sequence, cut.sequence->committed + cut.rows + more);
    cut.rows += more;
    rows -= more;
  }
}

}  // namespace aerie
