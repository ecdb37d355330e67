#include "decoding/scheduler.h"

#include <algorithm>

#include "common/error.h"
#include "kernels/ragged.h"

namespace aerie {

namespace {

int64_t held(const Sequence& sequence) { return static_cast<int64_t>(sequence.pages.size()); }

}  // namespace

Policy parse_policy(const std::string& name) {
  if (name == "splitfuse") return Policy::kSplitFuse;
  if (name == "prefill-first") return Policy::kPrefillFirst;
  AERIE_CHECK(name == "static",
              "the policy is \"{}\": known are splitfuse, prefill-first and static", name);
  return Policy::kStatic;
}

Scheduler::Scheduler(SchedulerLimits limits, PageTable& table, OnEvict on_evict)
    : limits_(limits), table_(table), on_evict_(std::move(on_evict)) {
  AERIE_CHECK(limits.max_sequences > 0, "concurrency must be at least 1, not {}",
              limits.max_sequences);
  AERIE_CHECK(limits.row_budget > 0, "the row budget must be at least 1, not {}",
              limits.row_budget);
  AERIE_CHECK(limits.logit_rows > 0, "the budget of rows with logits must be at least 1, not {}",
              limits.logit_rows);
  AERIE_CHECK(limits.prompt_share >= 0 && limits.prompt_share <= 1,
              "the share of prompts must be between 0 and 1, not {}", limits.prompt_share);
  AERIE_CHECK(limits.long_prompts > 0, "at least 1 prompt must be allowed to be half way, not {}",
              limits.long_prompts);
}

void Scheduler::submit(std::unique_ptr<Sequence> sequence) {
  waiting_.push_back(std::move(sequence));
}

// Pages that sequences already let in may still ask for: all of a promised one's, the text so far
// of another.
int64_t Scheduler::kept_pages() const {
  int64_t pages = 0;
  for (const auto& sequence : running_) {
    const int64_t need = sequence->promised ? sequence->max_tokens() : sequence->known();
    pages += std::max<int64_t>(0, PageTable::pages_for(need) - held(*sequence));
  }
  return pages;
}

void Scheduler::admit(int64_t private_pages) {
  const bool batch_runs = limits_.policy == Policy::kStatic && !running_.empty();
  if (batch_runs) return;
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_sequences &&
         let_in(private_pages)) {
  }
}

bool Scheduler::let_in(int64_t private_pages) {
  Sequence& next = *waiting_.front();
  next.promised = !limits_.evict || next.evictions >= limits_.max_evictions;
  if (limits_.share_prefixes) {
    // At least one row is computed: its logits are wanted.
    const int64_t most = std::min(table_.matching_pages(next) - private_pages,
                                  (next.known() - 1) / KvPool::kPageSize);
    table_.adopt(next, std::max<int64_t>(0, most));
  }
  // A little air, so that the newcomer does not make the others lose their pages at once.
  const int64_t air = next.promised || running_.empty()
                          ? 0
                          : static_cast<int64_t>(running_.size()) + table_.total() / 64;
  const int64_t need = PageTable::pages_for(
      next.promised ? next.max_tokens() : std::min(next.known() + 1, next.max_tokens()));
  if (need - held(next) + air > table_.free() - kept_pages()) {
    table_.release(next);
    return false;
  }
  next.shared_rows = next.committed;
  const auto later = std::find_if(running_.begin(), running_.end(),
                                  [&](const auto& each) { return each->id > next.id; });
  running_.insert(later, std::move(waiting_.front()));
  waiting_.pop_front();
  return true;
}

int64_t Scheduler::free_for(const Sequence& sequence) const {
  return sequence.promised ? table_.free() : std::max<int64_t>(0, table_.free() - kept_);
}

bool Scheduler::reserve(Sequence& sequence, int64_t tokens) {
  const int64_t before = held(sequence);
  if (PageTable::pages_for(tokens) - before > free_for(sequence)) return false;
  AERIE_CHECK(table_.reserve(sequence, tokens), "sequence {} was promised pages that are not there",
              sequence.id);
  if (sequence.promised) kept_ -= held(sequence) - before;
  return true;
}

Sequence* Scheduler::newest_that_can_lose() const {
  Sequence* newest = nullptr;
  for (const auto& sequence : running_) {
    if (sequence->promised || sequence->pages.empty()) continue;
    if (newest == nullptr || sequence->id > newest->id) newest = sequence.get();
  }
  return newest;
}

void Scheduler::evict(Sequence& sequence) {
  if (on_evict_) on_evict_(sequence);
  table_.release(sequence);
  ++sequence.evictions;
  ++evictions_;
  std::erase(decodes_, &sequence);
  const auto place = std::find_if(running_.begin(), running_.end(),
                                  [&](const auto& each) { return each.get() == &sequence; });
  std::unique_ptr<Sequence> out = std::move(*place);
  running_.erase(place);
  // Before everything that arrived after it.
  const auto later = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const auto& each) { return each->id > out->id; });
  waiting_.insert(later, std::move(out));
}

bool Scheduler::make_room() {
  Sequence* newest = newest_that_can_lose();
  if (newest == nullptr) return false;
  evict(*newest);
  return true;
}

const std::vector<Sequence*>& Scheduler::pick_decodes(const StepCost* cost, int64_t rows_each) {
  ++step_;
  rows_each_ = rows_each;
  decodes_.clear();
  cuts_.clear();
  kept_ = 0;
  bool prompts = false;
  for (const auto& sequence : running_) {
    if (sequence->promised) {
      kept_ += std::max<int64_t>(0, PageTable::pages_for(sequence->max_tokens()) - held(*sequence));
    }
    prompts = prompts || sequence->catching_up();
    if (!sequence->catching_up()) decodes_.push_back(sequence.get());
  }
  if (prompts && limits_.policy != Policy::kSplitFuse) decodes_.clear();
  budget_ = limits_.row_budget;
  const int64_t count = static_cast<int64_t>(decodes_.size());
  if (limits_.inter_token_seconds > 0 && cost != nullptr && count > 0) {
    const int64_t least = count * rows_each + SchedulerLimits::kLeastRows;
    budget_ = std::min(budget_, std::max(least, rows_in_time(*cost)));
  }
  const int64_t most = std::min(budget_, limits_.logit_rows) / rows_each;
  if (count > most) {
    std::sort(decodes_.begin(), decodes_.end(), [](const Sequence* a, const Sequence* b) {
      return a->last_served != b->last_served ? a->last_served < b->last_served : a->id < b->id;
    });
    decodes_.resize(most);
  }
  for (size_t i = 0; i < decodes_.size();) {
    Sequence& next = *decodes_[i];
    if (reserve(next, std::min(next.committed + rows_each, next.max_tokens()))) {
      decodes_[i++]->last_served = step_;
      continue;
    }
    AERIE_CHECK(make_room(), "sequence {} needs a page and nobody can give one", decodes_[i]->id);
    i = 0;  // whoever went may have stood anywhere
  }
  return decodes_;
}

// Rows for which there is time beside the decoding sequences. A row of a prompt sees what the
// prompt has in the cache already.
int64_t Scheduler::rows_in_time(const StepCost& cost) const {
  const int64_t count = static_cast<int64_t>(decodes_.size());
  StepShape shape{count, count};
  for (const Sequence* sequence : decodes_) shape.cache_rows += sequence->committed;
  int64_t past = 0;
  for (const auto& sequence : running_) {
    if (!sequence->catching_up()) continue;
    shape.cache_rows += sequence->committed;
    past = std::max(past, sequence->committed);
  }
  return cost.rows_within(limits_.inter_token_seconds, shape, past);
}

void Scheduler::reserve_ahead(int64_t rows) {
  for (Sequence* sequence : decodes_) {
    const int64_t wanted = std::min(sequence->known() + rows, sequence->max_tokens());
    if (reserve(*sequence, wanted)) continue;
    const int64_t pages = held(*sequence) + free_for(*sequence);
    reserve(*sequence, std::min(wanted, pages * KvPool::kPageSize));
  }
}

RowBudget Scheduler::decode_budget() const {
  const int64_t decodes = static_cast<int64_t>(decodes_.size()) * rows_each_;  // their least rows
  int64_t waiting = 0;
  for (const auto& sequence : running_) {
    if (sequence->catching_up()) waiting += sequence->missing();
  }
  const int64_t spare = budget_ - decodes;
  const int64_t floor =
      waiting == 0
          ? 0
          : std::max(KvPool::kPageSize,
                     static_cast<int64_t>(limits_.prompt_share * static_cast<double>(spare)));
  RowBudget budget;
  budget.rows = decodes + std::max<int64_t>(0, spare - floor);
  // A prompt's last row must find room, or guesses would keep it waiting for ever.
  budget.logit_rows = std::max(decodes, limits_.logit_rows - (waiting > 0 ? 1 : 0));
  budget.draft_rows = limits_.draft_rows;
  budget.prompt_rows = std::clamp<int64_t>(waiting, 0, std::max<int64_t>(0, spare));
  return budget;
}

std::unique_ptr<Sequence> Scheduler::remove(int64_t id) {
  const auto is_it = [id](const auto& sequence) { return sequence->id == id; };
  std::unique_ptr<Sequence> out;
  if (auto it = std::find_if(running_.begin(), running_.end(), is_it); it != running_.end()) {
    out = std::move(*it);
    running_.erase(it);
  } else if (auto queued = std::find_if(waiting_.begin(), waiting_.end(), is_it);
             queued != waiting_.end()) {
    out = std::move(*queued);
    waiting_.erase(queued);
  }
  return out;
}

}  // namespace aerie
