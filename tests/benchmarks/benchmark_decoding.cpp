// What a step of decoding costs on this machine, as one JSON object on stdout:
//   benchmark_decoding MODEL_DIRECTORY
// scripts/benchmark_decoding.sh sets it beside transformers.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "common/memory.h"
#include "decoding/autoregressive.h"
#include "decoding/bench.h"
#include "decoding/clock.h"
#include "decoding/engine.h"
#include "tests/decoding/test_drafts.h"

namespace aerie {
namespace {

struct StepCost {
  double milliseconds = 0;  // median over decoding steps
  double tokens_per_second = 0;
  double draft = 0, overhead = 0;  // milliseconds of a step outside the target's forward
};

std::vector<Request> requests_of(int64_t count, int64_t prompt, int64_t max_new_tokens) {
  std::vector<Request> requests(count);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t t = 0; t < prompt; ++t) {
      requests[i].prompt.push_back(static_cast<int32_t>(1000 + (t * 7919 + i * 104729) % 40000));
    }
    requests[i].max_new_tokens = max_new_tokens;
  }
  return requests;
}

// Steps without prompt rows, all sequences running.
StepCost decode_cost(const TargetModel& target, Decoder& decoder, int64_t sequences,
                     int64_t steps) {
  const auto requests = requests_of(sequences, 128, steps);
  Engine engine(target, decoder,
                {{sequences, kRowBudget}, pages_for_requests(requests, sequences)});
  for (const Request& request : requests) engine.submit(request);
  int64_t emitted = 0;
  const auto count = [&](const Sequence&, std::span<const int32_t> tokens) {
    emitted += static_cast<int64_t>(tokens.size());
  };
  std::vector<double> times;
  int64_t decoded = 0;
  TimeSplit sum;
  for (;;) {
    const int64_t prompt_rows = engine.counts().prompt_rows;
    const TimeSplit before = engine.times();
    emitted = 0;
    const double start = seconds_now();
    if (!engine.step(count)) break;
    const double seconds = (seconds_now() - start);
    if (engine.counts().prompt_rows != prompt_rows || engine.running() < sequences) continue;
    times.push_back(seconds);
    decoded += emitted;
    sum.draft += engine.times().draft - before.draft;
    sum.schedule +=
        engine.times().schedule - before.schedule + engine.times().verify - before.verify;
  }
  double total = 0;
  for (const double time : times) total += time;
  const double forwards = static_cast<double>(times.size());
  return {1e3 * median(times), static_cast<double>(decoded) / total, 1e3 * sum.draft / forwards,
          1e3 * sum.schedule / forwards};
}

/// Of each run the median of some rounds, in each of which all take their turn: what else the
/// machine does for a while meets all of them.
std::vector<StepCost> in_rounds(const std::vector<std::function<StepCost()>>& runs) {
  constexpr size_t kRounds = 3;
  std::vector<std::vector<StepCost>> costs(runs.size());
  for (size_t round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < runs.size(); ++i) costs[i].push_back(runs[i]());
  }
  std::vector<StepCost> medians;
  for (auto& each : costs) {
    std::nth_element(
        each.begin(), each.begin() + kRounds / 2, each.end(),
        [](const StepCost& a, const StepCost& b) { return a.milliseconds < b.milliseconds; });
    medians.push_back(each[kRounds / 2]);
  }
  return medians;
}

double prompt_tokens_per_second(const TargetModel& target, int64_t prompt, int64_t count) {
  const auto requests = requests_of(count, prompt, 1);
  AutoregressiveDecoder decoder;
  Engine engine(target, decoder, {{count, kRowBudget}, pages_for_requests(requests, count)});
  const double start = seconds_now();
  run_requests(engine, requests);
  return static_cast<double>(prompt * count) / (seconds_now() - start);
}

int64_t weight_bytes(const ModelConfig& c) {
  const int64_t layer =
      c.hidden * c.head_dim * (2 * c.heads + 2 * c.kv_heads) + 3 * c.hidden * c.intermediate;
  return 2 * (c.layers * layer + c.vocab * c.hidden);
}

Json measure(const TargetModel& target) {
  const auto draft = testing::random_draft(target, {1, 14, 26}, 6, 3);
  AutoregressiveDecoder autoregressive;
  decode_cost(target, autoregressive, 1, 24);  // warm-up
  Json report;
  report["read_gb_s"] = ops::measure_read_bandwidth() / 1e9;
  report["weight_mb"] = static_cast<double>(weight_bytes(target.config())) / 1e6;
  const std::vector<int64_t> batches{1, 4, 8, 16, 32, 64}, depths{1, 3, 5, 7};
  std::vector<std::function<StepCost()>> runs;
  for (const int64_t sequences : batches) {
    runs.emplace_back(
        [&, sequences] { return decode_cost(target, autoregressive, sequences, 48); });
  }
  for (const int64_t k : depths) {
    runs.emplace_back([&, k] { return decode_cost(target, *draft.decoder(target, k), 1, 48); });
  }
  const std::vector<StepCost> costs = in_rounds(runs);
  for (size_t i = 0; i < batches.size(); ++i) {
    report["autoregressive"].push_back({{"sequences", batches[i]},
                                        {"step_ms", costs[i].milliseconds},
                                        {"tokens_per_second", costs[i].tokens_per_second},
                                        {"overhead_ms", costs[i].overhead}});
  }
  for (size_t i = 0; i < depths.size(); ++i) {
    const StepCost& cost = costs[batches.size() + i];
    report["speculative"].push_back({{"draft_tokens", depths[i]},
                                     {"step_ms", cost.milliseconds},
                                     {"draft_ms", cost.draft},
                                     {"overhead_ms", cost.overhead}});
  }
  for (const int64_t prompt : {128, 512, 2048}) {
    report["prompts"].push_back(
        {{"tokens", prompt},
         {"tokens_per_second", prompt_tokens_per_second(target, prompt, 4096 / prompt)}});
  }
  return report;
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: benchmark_decoding MODEL_DIRECTORY\n");
    return 2;
  }
  aerie::set_up_memory();
  at::set_num_threads(1);
  const auto target = aerie::load_target(argv[1], at::kCPU, at::kBFloat16);
  std::printf("%s\n", aerie::measure(*target).dump().c_str());
}
