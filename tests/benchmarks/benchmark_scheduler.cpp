// What planning a step costs, and whether it allocates, as one JSON object on stdout:
//   benchmark_scheduler [MODEL_DIRECTORY]
// With a model the time is also given as a share of that model's forward of as many rows.
#include <ATen/Parallel.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "decoding/clock.h"
#include "tests/decoding/counted_allocations.h"
#include "tests/decoding/planner_loop.h"

namespace aerie {
namespace {

constexpr int kSteps = 300;

struct Cost {
  double microseconds = 0, allocations = 0;  // a step
};

Cost measure(const testing::PlannerLoop::Options& options) {
  testing::PlannerLoop loop(options);
  loop.warm_up();
  const int64_t before = testing::allocations;
  const double start = seconds_now();
  for (int i = 0; i < kSteps; ++i) loop.step();
  return {(seconds_now() - start) / kSteps * 1e6,
          static_cast<double>(testing::allocations - before) / kSteps};
}

nlohmann::json report(const TargetModel* target) {
  nlohmann::json rows = nlohmann::json::array();
  std::optional<StepCost> cost;
  if (target != nullptr) cost = measure_step_cost(*target, 512);
  for (const int64_t sequences : {1, 16, 64, 256, 512}) {
    for (const bool adaptive : {false, true}) {
      const Cost each = measure({sequences, adaptive, true, 1.0});
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
