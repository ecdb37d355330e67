#include "decoding/adaptive_depth.h"

#include <algorithm>
#include <bit>

namespace aerie {

namespace {

constexpr double kFirstChance = 0.7;  // before anything was seen
constexpr double kLearn = 0.02;       // share of a new judgement in the common estimate
constexpr double kOwnWeight = 24;     // judgements until a sequence's own record counts as much
constexpr double kForget = 0.002;     // drift to the first estimate while nothing is tried
constexpr double kFirstRatio = 0.04;  // a level of drafting over a step, before it was measured
constexpr double kFirstLateRatio = 0.003;  // the same of a row that is written late
constexpr double kLateSteps = 64;          // steps that share the time of writing late rows
constexpr double kLeastGain = 1.05;        // what promises less is not worth its risk
constexpr size_t kBatchSizes = 16;

size_t batch_size_index(int64_t sequences) {
  return std::min<size_t>(std::bit_width(static_cast<uint64_t>(sequences)), kBatchSizes - 1);
}

}  // namespace

AdaptiveDepth::AdaptiveDepth(int64_t most)
    : chances_(most, kFirstChance), ratios_(kBatchSizes), late_ratio_(kFirstLateRatio) {}

double AdaptiveDepth::chance(const Sequence& sequence, int64_t depth) const {
  const DraftStats& stats = sequence.stats;
  const double common = chances_[depth];
  if (depth >= static_cast<int64_t>(stats.reached.size())) return common;
  return (static_cast<double>(stats.accepted[depth]) + kOwnWeight * common) /
         (static_cast<double>(stats.reached[depth]) + kOwnWeight);
}

void AdaptiveDepth::judged(int64_t depth, bool held) {
  if (depth >= static_cast<int64_t>(chances_.size())) return;
  chances_[depth] += kLearn * ((held ? 1.0 : 0.0) - chances_[depth]);
}

void AdaptiveDepth::drafted(int64_t sequences, int64_t levels, int64_t late_rows, double seconds,
                            const StepCost& cost) {
  if (late_rows > 0) {
    const double late = std::max(0.0, seconds - draft_seconds(sequences, levels, cost));
    const double now = late / static_cast<double>(late_rows) / cost.seconds(1, 1);
    late_ratio_ += 0.1 * (now - late_ratio_);
    return;
  }
  double& ratio = ratios_[batch_size_index(sequences)];
  const double now = seconds / static_cast<double>(levels + 1) / cost.seconds(sequences, sequences);
  ratio = ratio == 0 ? now : ratio + 0.1 * (now - ratio);
}

double AdaptiveDepth::draft_seconds(int64_t sequences, int64_t levels, const StepCost& cost) const {
  if (levels == 0) return 0;
  const size_t index = batch_size_index(sequences);
  double ratio = kFirstRatio;
  for (size_t away = 0; away < kBatchSizes; ++away) {  // the nearest batch that was measured
    if (index >= away && ratios_[index - away] > 0) {
      ratio = ratios_[index - away];
      break;
    }
    if (index + away < kBatchSizes && ratios_[index + away] > 0) {
      ratio = ratios_[index + away];
      break;
    }
  }
  // One level more: the rows accepted since then are written first.
  return ratio * static_cast<double>(levels + 1) * cost.seconds(sequences, sequences);
}

// How many of the slots, the likeliest first, to take.
size_t AdaptiveDepth::pick(int64_t sequences, const RowBudget& budget) {
  const StepCost& cost = *budget.cost;
  const double late_row = late_ratio_ * cost.seconds(1, 1) / kLateSteps;
  double tokens = static_cast<double>(sequences);
  int64_t levels = 0, late_rows = 0;
  offers_.clear();
  const auto offer = [&](int64_t guesses) {
    const int64_t rows = sequences + guesses;
    const double drafting = draft_seconds(std::min(sequences, guesses), levels, cost) +
                            late_row * static_cast<double>(late_rows);
    offers_.push_back({tokens, cost.seconds(rows, rows) + drafting,
                       cost.seconds(rows + budget.prompt_rows, rows) + drafting});
  };
  offer(0);
  for (size_t n = 0; n < slots_.size(); ++n) {
    tokens += slots_[n].survival;
    levels = std::max<int64_t>(levels, slots_[n].depth + 1);
    late_rows += slots_[n].late_rows;
    offer(static_cast<int64_t>(n) + 1);
  }
  return best_offer(offers_, kLeastGain);
}

void AdaptiveDepth::choose(std::span<Sequence* const> sequences, std::span<const int64_t> limits,
                           std::span<const int64_t> late_rows, const RowBudget& budget,
                           std::vector<int64_t>& depths) {
  const int64_t count = static_cast<int64_t>(sequences.size());
  slots_.clear();
  for (int64_t s = 0; s < count; ++s) {
    double survival = 1;
    const int64_t limit = std::min<int64_t>(limits[s], static_cast<int64_t>(chances_.size()));
    for (int64_t depth = 0; depth < limit; ++depth) {
      survival *= chance(*sequences[s], depth);
      slots_.push_back({static_cast<float>(survival), static_cast<int32_t>(s),
                        static_cast<int32_t>(depth),
                        depth == 0 ? static_cast<int32_t>(late_rows[s]) : 0});
    }
  }
  // Deeper slots of a sequence are never likelier; among equals the shallower ones come first.
  std::sort(slots_.begin(), slots_.end(), [](const Slot& a, const Slot& b) {
    if (a.survival != b.survival) return a.survival > b.survival;
    return a.depth != b.depth ? a.depth < b.depth : a.sequence < b.sequence;
  });
  const int64_t room = std::max<int64_t>(
      0, std::min({budget.rows, budget.logit_rows,
                   budget.draft_rows < RowBudget::kUnlimited - count ? budget.draft_rows + count
                                                                     : RowBudget::kUnlimited}) -
             count);
  if (static_cast<int64_t>(slots_.size()) > room) slots_.resize(room);
  if (budget.cost != nullptr) slots_.resize(pick(count, budget));
  depths.assign(sequences.size(), 0);
  for (const Slot& slot : slots_) ++depths[slot.sequence];
  if (!slots_.empty()) return;
  for (double& each : chances_) {
    if (each < kFirstChance) each += kForget * (kFirstChance - each);
  }
}

}  // namespace aerie
