#include "decoding/step_cost.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "common/error.h"
#include "decoding/batch.h"
#include "decoding/clock.h"
#include "decoding/page_table.h"

namespace aerie {

namespace {

void level(std::vector<RowCost>& table, const char* what) {
  AERIE_CHECK(!table.empty(), "a table of step costs has no entry for the {}", what);
  for (size_t i = 1; i < table.size(); ++i) {
    AERIE_CHECK(table[i - 1].rows < table[i].rows,
                "the step costs of the {} are not ascending in rows", what);
    table[i].seconds = std::max(table[i].seconds, table[i - 1].seconds);
  }
}

double cost_of(std::span<const RowCost> table, int64_t rows) {
  return rows <= 0 ? 0 : interpolate(table, rows);
}

/// The least of some runs: whatever else the machine does only adds to them.
template <typename Action>
double fastest(int runs, const Action& action) {
  double least = 0;
  for (int run = 0; run < runs; ++run) {
    const double start = seconds_now();
    action();
    const double seconds = seconds_now() - start;
    least = run == 0 ? seconds : std::min(least, seconds);
  }
  return least;
}

std::vector<int64_t> row_counts(int64_t most_rows) {
  std::vector<int64_t> counts;
  for (const int64_t rows : {1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256, 512}) {
    if (rows < most_rows) counts.push_back(rows);
  }
  counts.push_back(most_rows);
  return counts;
}

}  // namespace

double interpolate(std::span<const RowCost> table, int64_t rows) {
  if (rows <= table.front().rows || table.size() == 1) return table.front().seconds;
  size_t next = 1;
  while (next + 1 < table.size() && table[next].rows < rows) ++next;
  const RowCost &low = table[next - 1], &high = table[next];
  return low.seconds + (high.seconds - low.seconds) * static_cast<double>(rows - low.rows) /
                           static_cast<double>(high.rows - low.rows);
}

StepCost::StepCost(std::vector<RowCost> layers, std::vector<RowCost> head)
    : layers_(std::move(layers)), head_(std::move(head)) {
  level(layers_, "layers");
  level(head_, "head");
}

double StepCost::seconds(int64_t rows, int64_t logit_rows) const {
  return correction_ * (cost_of(layers_, rows) + cost_of(head_, logit_rows));
}

int64_t StepCost::rows_within(double limit, int64_t logit_rows) const {
  int64_t low = 0, high = 1;
  while (high < (int64_t{1} << 20) && seconds(high, logit_rows) <= limit) high *= 2;
  while (low + 1 < high) {
    const int64_t middle = (low + high) / 2;
    (seconds(middle, logit_rows) <= limit ? low : high) = middle;
  }
  return low;
}

void StepCost::observe(int64_t rows, int64_t logit_rows, double measured) {
  constexpr double kRate = 0.05, kLeast = 0.25, kMost = 4.0;
  const double predicted = seconds(rows, logit_rows);
  if (predicted <= 0) return;
  const double ratio = std::clamp(measured / predicted, kLeast, kMost);
  correction_ = std::clamp(correction_ * (1 + kRate * (ratio - 1)), kLeast, kMost);
}

StepCost measure_step_cost(const TargetModel& target, int64_t most_rows) {
  const c10::InferenceMode inference;
  const ModelConfig& config = target.config();
  most_rows = std::clamp<int64_t>(most_rows, 1, config.max_position);
  Sequence sequence;
  sequence.tokens.assign(most_rows + 1, 0);  // one more: no row is the last one, none has logits
  PageTable table(PageTable::pages_for(most_rows));
  table.reserve(sequence, most_rows);
  KvPool pool = ops::make_kv_pool(config.layers, table.total(), config.kv_heads, config.head_dim,
                                  target.dtype(), target.device());
  const std::vector<Sequence*> sequences{&sequence};
  const auto forward = [&](int64_t rows) {
    const std::vector<Chunk> chunks{known_chunk(sequence, 0, rows)};
    Batch batch = build_batch(sequences, chunks, target.device());
    batch.input.kv = &pool;
    return target.forward(batch.input).hidden;
  };
  forward(most_rows);  // buffers grow
  std::vector<RowCost> layers, head;
  for (const int64_t rows : row_counts(most_rows)) {
    layers.push_back({rows, fastest(rows <= 64 ? 5 : 2, [&] { forward(rows); })});
    const Tensor hidden = forward(rows);
    if (rows > 128) continue;  // more logits than that are no step's
    head.push_back({rows, fastest(3, [&] { ops::linear(hidden, target.head()).to(at::kFloat); })});
  }
  return StepCost(std::move(layers), std::move(head));
}

}  // namespace aerie
