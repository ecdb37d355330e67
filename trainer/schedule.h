// The learning rate as a function of the step.
#pragma once
#include <cstdint>

#include "configs/run_config.h"

namespace aerie {

/// Rate of `step` (from 0) out of `total_steps`: linear warm-up over optim.warmup_steps, reaching
/// optim.lr at its end; then constant, or down to optim.lr * optim.final_lr_ratio at the last step
/// along a line or half a cosine.
double learning_rate(const OptimSection& optim, int64_t step, int64_t total_steps);

}  // namespace aerie
