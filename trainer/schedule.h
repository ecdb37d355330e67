// What depends on the number of the step: the learning rate, and what is done every so many.
#pragma once
#include <cstdint>

#include "configs/run_config.h"

namespace aerie {

/// Rate of `step` (from 0) out of `total_steps`: linear warm-up over optim.warmup_steps, or over
/// the share optim.warmup_ratio of all steps, reaching optim.lr at its end; then constant, or down
/// to optim.lr * optim.final_lr_ratio at the last step along a line or half a cosine. "wsd" stays
/// at optim.lr and goes down along a line in the last share optim.decay_ratio of all steps
/// (warm-up, stable, decay: MiniCPM, arXiv 2404.06395).
double learning_rate(const OptimSection& optim, int64_t step, int64_t total_steps);

/// Whether something done `every` so many steps (0: never) is done after `step` of them.
inline bool is_due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

}  // namespace aerie
