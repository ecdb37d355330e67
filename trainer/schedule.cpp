#include "trainer/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "common/error.h"

namespace aerie {

namespace {

int64_t share(double ratio, int64_t total_steps) {
  return static_cast<int64_t>(std::ceil(ratio * static_cast<double>(total_steps)));
}

/// How far the rate has come down, from 1 to 0 at `progress` 1.
double left_of(const OptimSection& optim, double progress) {
  if (optim.schedule == "constant") return 1;
  if (optim.schedule == "linear" || optim.schedule == "wsd") return 1.0 - progress;
  if (optim.schedule == "cosine") return 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  fail("optim.schedule is '{}': choose constant, linear, cosine or wsd", optim.schedule);
}

}  // namespace

double learning_rate(const OptimSection& optim, int64_t step, int64_t total_steps) {
  const int64_t warmup =
      optim.warmup_ratio > 0 ? share(optim.warmup_ratio, total_steps) : optim.warmup_steps;
  if (step < warmup) {
    return optim.lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  }
  int64_t start = warmup;  // of the way down
  if (optim.schedule == "wsd") {
    start = std::max(warmup, total_steps - share(optim.decay_ratio, total_steps));
  }
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - start));
  const double progress = std::clamp(static_cast<double>(step + 1 - start) / span, 0.0, 1.0);
  const double left = left_of(optim, progress);
  return optim.lr * (optim.final_lr_ratio + (1.0 - optim.final_lr_ratio) * left);
}

}  // namespace aerie
