// What planning a step costs, and whether it allocates, as one JSON object on stdout:
//   benchmark_scheduler [MODEL_DIRECTORY]
// With a model the time is also given as a share of that model's forward of as many rows.
#include <ATen/Parallel.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <nlohmann/json.hpp>
#include <numeric>

#include "decoding/adaptive_depth.h"
#include "decoding/clock.h"
#include "decoding/scheduler.h"

namespace {
std::atomic<int64_t> allocations{0};
}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace aerie {
namespace {

constexpr int64_t kPrompt = 40, kNew = 4000, kSteps = 300, kAhead = 5;

struct Cost {
  double microseconds = 0, allocations = 0;  // a step
};

/// One step as the engine takes it, without a model: every sequence gets one token.
void step(Scheduler& scheduler, PageTable& table, AdaptiveDepth* adaptive, const StepCost& cost,
          std::vector<int64_t>& limits, std::vector<int64_t>& depths) {
  constexpr int32_t kKept[] = {0};
  scheduler.admit();
  const std::vector<Sequence*>& decodes = scheduler.pick_decodes(&cost);
  scheduler.reserve_ahead(kAhead);
  RowBudget budget = scheduler.decode_budget();
  budget.cost = &cost;
  if (adaptive != nullptr) {
    limits.assign(decodes.size(), kAhead);
    adaptive->choose(decodes, limits, budget, depths);
  }
  const int64_t count = static_cast<int64_t>(decodes.size());
  const std::vector<PromptCut>& cuts = scheduler.cut_prompts(count, count);
  for (Sequence* sequence : decodes) {
    sequence->written = sequence->committed + 1;
    table.commit(*sequence, kKept);
    sequence->tokens.push_back(1);
  }
  for (const PromptCut& cut : cuts) {
    std::vector<int32_t> keep(cut.rows);  // only while prompts are read
    std::iota(keep.begin(), keep.end(), 0);
    cut.sequence->written = cut.sequence->committed + cut.rows;
    table.commit(*cut.sequence, keep);
    if (cut.sequence->committed == cut.sequence->known()) cut.sequence->tokens.push_back(1);
  }
}

Cost measure(int64_t sequences, bool with_adaptive) {
  PageTable table(sequences * PageTable::pages_for(kPrompt + kNew));
  SchedulerLimits limits;
  limits.max_sequences = sequences;
  limits.row_budget = 2 * sequences;
  Scheduler scheduler(limits, table);
  for (int64_t id = 0; id < sequences; ++id) {
    auto sequence = std::make_unique<Sequence>();
    sequence->id = id;
    sequence->request.prompt.assign(kPrompt, 3);
    sequence->request.max_new_tokens = kNew;
    sequence->tokens.reserve(kPrompt + kNew);
    sequence->tokens = sequence->request.prompt;
    sequence->tokens.reserve(kPrompt + kNew);
    sequence->pages.reserve(PageTable::pages_for(kPrompt + kNew));
    scheduler.submit(std::move(sequence));
  }
  const StepCost cost({{1, 0.02}, {16, 0.024}, {512, 0.3}}, {{1, 0.004}, {128, 0.04}});
  AdaptiveDepth adaptive(kAhead);
  std::vector<int64_t> depth_limits, depths;
  const auto one = [&] {
    step(scheduler, table, with_adaptive ? &adaptive : nullptr, cost, depth_limits, depths);
  };
  for (int i = 0; i < 200; ++i) one();  // prompts are through, buffers have grown
  const int64_t before = allocations;
  const double start = seconds_now();
  for (int i = 0; i < kSteps; ++i) one();
  return {(seconds_now() - start) / kSteps * 1e6,
          static_cast<double>(allocations - before) / kSteps};
}

nlohmann::json report(const TargetModel* target) {
  nlohmann::json rows = nlohmann::json::array();
  std::optional<StepCost> cost;
  if (target != nullptr) cost = measure_step_cost(*target, 512);
  for (const int64_t sequences : {1, 16, 64, 256, 512}) {
    for (const bool adaptive : {false, true}) {
      const Cost each = measure(sequences, adaptive);
      rows.push_back({{"sequences", sequences},
                      {"adaptive", adaptive},
                      {"microseconds", each.microseconds},
                      {"allocations", each.allocations}});
      if (cost) {
        const double forward = cost->seconds(sequences, sequences);
        rows.back()["forward_ms"] = forward * 1e3;
        rows.back()["share"] = each.microseconds * 1e-6 / forward;
      }
    }
  }
  return rows;
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const auto target = argc > 1 ? aerie::load_target(argv[1], at::kCPU, at::kBFloat16) : nullptr;
  std::printf("%s\n", aerie::report(target.get()).dump().c_str());
}
