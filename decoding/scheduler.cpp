#include "decoding/scheduler.h"

#include <algorithm>

#include "common/error.h"
#include "kernels/ragged.h"

namespace aerie {

Scheduler::Scheduler(SchedulerLimits limits, int64_t pages) : limits_(limits), pages_(pages) {
  AERIE_CHECK(limits.max_sequences > 0, "concurrency must be at least 1, not {}",
              limits.max_sequences);
  AERIE_CHECK(limits.row_budget > 0, "the row budget must be at least 1, not {}",
              limits.row_budget);
}

void Scheduler::submit(std::unique_ptr<Sequence> sequence) {
  waiting_.push_back(std::move(sequence));
}

void Scheduler::admit() {
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_sequences) {
    const int64_t need = PageTable::pages_for(waiting_.front()->max_tokens());
    if (promised_ + need > pages_) return;
    promised_ += need;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

std::vector<Sequence*> Scheduler::pick_decodes() {
  ++step_;
  std::vector<Sequence*> decodes;
  for (const auto& sequence : running_) {
    if (!sequence->catching_up()) decodes.push_back(sequence.get());
  }
  if (static_cast<int64_t>(decodes.size()) > limits_.row_budget) {
    std::stable_sort(decodes.begin(), decodes.end(), [](const Sequence* a, const Sequence* b) {
      return a->last_served < b->last_served;
    });
    decodes.resize(limits_.row_budget);
  }
  for (Sequence* sequence : decodes) sequence->last_served = step_;
  return decodes;
}

RowBudget Scheduler::decode_budget(int64_t decodes) const {
  const bool prompts = std::any_of(running_.begin(), running_.end(),
                                   [](const auto& sequence) { return sequence->catching_up(); });
  const int64_t spare = limits_.row_budget - decodes;
  const int64_t floor = prompts ? std::max(KvPool::kPageSize, spare / 4) : 0;
  return {decodes + std::max<int64_t>(0, spare - floor)};
}

std::vector<PromptCut> Scheduler::cut_prompts(int64_t rows) const {
  std::vector<PromptCut> cuts;
  for (const auto& sequence : running_) {
    if (rows <= 0) break;
    if (!sequence->catching_up()) continue;
    const int64_t take = std::min(rows, sequence->known() - sequence->committed);
    cuts.push_back({sequence.get(), take});
    rows -= take;
  }
  return cuts;
}

std::unique_ptr<Sequence> Scheduler::remove(int64_t id) {
  const auto is_it = [id](const auto& sequence) { return sequence->id == id; };
  std::unique_ptr<Sequence> out;
  if (auto it = std::find_if(running_.begin(), running_.end(), is_it); it != running_.end()) {
    promised_ -= PageTable::pages_for((*it)->max_tokens());
    out = std::move(*it);
    running_.erase(it);
  } else if (auto queued = std::find_if(waiting_.begin(), waiting_.end(), is_it);
             queued != waiting_.end()) {
    out = std::move(*queued);
    waiting_.erase(queued);
  }
  return out;
}

std::vector<Sequence*> Scheduler::running() const {
  std::vector<Sequence*> all;
  for (const auto& sequence : running_) all.push_back(sequence.get());
  return all;
}

}  // namespace aerie
