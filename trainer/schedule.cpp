#include "trainer/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/error.h"

namespace aerie {

double learning_rate(const OptimSection& optim, int64_t step, int64_t total_steps) {
  if (step < optim.warmup_steps) {
    return optim.lr * static_cast<double>(step + 1) / static_cast<double>(optim.warmup_steps);
  }
  if (optim.schedule == "constant") return optim.lr;
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - optim.warmup_steps));
  const double progress = std::min(1.0, static_cast<double>(step + 1 - optim.warmup_steps) / span);
  double left = 0;
  if (optim.schedule == "linear") {
    left = 1.0 - progress;
  } else if (optim.schedule == "cosine") {
    left = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  } else {
    fail("optim.schedule is '{}': choose constant, linear or cosine", optim.schedule);
  }
  return optim.lr * (optim.final_lr_ratio + (1.0 - optim.final_lr_ratio) * left);
}

}  // namespace aerie
