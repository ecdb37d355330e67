// Measures what forwards cost here.
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>

#include "decoding/batch.h"
#include "decoding/clock.h"
#include "decoding/page_table.h"
#include "decoding/step_cost.h"

namespace aerie {

namespace {

template <typename Action>
double seconds_of(const Action& action) {
  const double start = seconds_now();
  action();
  return seconds_now() - start;
}

/// The least of some runs: whatever else the machine does only adds to them.
template <typename Action>
double fastest(int runs, const Action& action) {
  double least = seconds_of(action);
  for (int run = 1; run < runs; ++run) least = std::min(least, seconds_of(action));
  return least;
}

/// Entry `i` of the table, where it is the least so far.
void keep_least(std::vector<StepCost::Point>& table, size_t i, int64_t rows, double seconds) {
  if (i == table.size()) table.push_back({rows, seconds});
  table[i].seconds = std::min(table[i].seconds, seconds);
}

std::vector<int64_t> row_counts(int64_t most_rows) {
  std::vector<int64_t> counts;
  // Products take rows in blocks of 8: the first of a new block is the dear one.
  for (const int64_t rows :
       {1, 2, 4, 6, 8, 9, 12, 16, 17, 20, 24, 25, 32, 33, 40, 48, 64, 96, 128, 256, 512}) {
    if (rows < most_rows) counts.push_back(rows);
  }
  counts.push_back(most_rows);
  return counts;
}

/// Forwards of chosen shapes, on a cache of its own.
class CostProbe {
 public:
  CostProbe(const TargetModel& target, int64_t most_rows)
      : target_(target),
        past_(std::clamp<int64_t>(target.config().max_position / 2, 1, 512)),
        rows_(std::clamp<int64_t>(target.config().max_position / 4, 1, 64)),
        table_(PageTable::pages_for(most_rows) + 2 * PageTable::pages_for(past_ + rows_)) {
    const ModelConfig& config = target.config();
    pool_ = ops::make_kv_pool(config.layers, table_.total(), config.kv_heads, config.head_dim,
                              target.dtype(), target.device());
    prepare(whole_, most_rows);
    for (Sequence& each : pair_) prepare(each, past_ + rows_);
  }

  Tensor forward(int64_t rows) { return run({&whole_}, rows); }

  /// What keys of earlier rows add to a forward: of one row in each of two sequences, and of some
  /// rows in one.
  StepCost::Past measure_past() {
    const std::vector<Sequence*> both{&pair_[0], &pair_[1]}, one{&pair_[0]};
    const auto time = [&](const std::vector<Sequence*>& sequences, int64_t rows) {
      return fastest(5, [&] { run(sequences, rows); });
    };
    const double short_pair = time(both, 1), short_one = time(one, rows_);
    for (Sequence& each : pair_) {
      run({&each}, past_);  // the keys are there, and were written
      each.committed = past_;
    }
    const double keys = static_cast<double>(past_);
    StepCost::Past cost;
    cost.cache_row = std::max(0.0, (time(both, 1) - short_pair) / (2 * keys));
    const double more = time(one, rows_) - short_one - cost.cache_row * keys;
    cost.pair = std::max(0.0, more / (static_cast<double>(rows_) * keys));
    return cost;
  }

 private:
  void prepare(Sequence& sequence, int64_t rows) {
    sequence.tokens.assign(rows + 1, 0);  // one more: no row is the last one, none has logits
    table_.reserve(sequence, rows);
  }
  Tensor run(const std::vector<Sequence*>& sequences, int64_t rows) {
    std::vector<Chunk> chunks;
    for (const Sequence* each : sequences) {
      chunks.push_back(known_chunk(*each, each->committed, rows));
    }
    Batch batch = build_batch(sequences, chunks, target_.device());
    batch.input.kv = &pool_;
    return target_.forward(batch.input).hidden;
  }

  const TargetModel& target_;
  const int64_t past_, rows_;  // of an earlier step, and of a chunk behind them
  PageTable table_;
  KvPool pool_;
  Sequence whole_;
  std::array<Sequence, 2> pair_;
};

}  // namespace

StepCost measure_step_cost(const TargetModel& target, int64_t most_rows) {
  constexpr int kRounds = 5, kLongRounds = 2;
  constexpr int64_t kLong = 64, kMostLogits = 128;  // more logits than that are no step's
  const c10::InferenceMode inference;
  most_rows = std::clamp<int64_t>(most_rows, 1, target.config().max_position);
  CostProbe probe(target, most_rows);
  probe.forward(most_rows);  // buffers grow
  const std::vector<int64_t> counts = row_counts(most_rows);
  std::vector<StepCost::Point> layers, head;
  // Round after round, so that what else the machine does for a moment meets every count alike.
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < counts.size(); ++i) {
      const int64_t rows = counts[i];
      if (rows > kLong && round >= kLongRounds) break;
      Tensor hidden;
      keep_least(layers, i, rows, seconds_of([&] { hidden = probe.forward(rows); }));
      if (rows > kMostLogits) continue;
      keep_least(head, i, rows,
                 seconds_of([&] { ops::linear(hidden, target.head()).to(at::kFloat); }));
    }
  }
  return StepCost(std::move(layers), std::move(head), probe.measure_past());
}

}  // namespace aerie
