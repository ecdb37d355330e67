#include "trainer/time_estimate.h"

#include <cmath>

#include "trainer/schedule.h"

namespace aerie {
namespace {

/// How many of `steps` steps are the last or due.
template <typename Due>
int64_t count_steps(int64_t steps, const Due& due) {
  int64_t count = 0;
  for (int64_t step = 1; step <= steps; ++step) count += step == steps || due(step);
  return count;
}

}  // namespace

RunTimes estimate_time(const RunConfig& config, const RunRates& rates) {
  const int64_t eval_every = config.eval.every, save_every = config.train.checkpoint_every;
  const double later = rates.tokens - rates.first_pass_tokens;
  RunTimes times;
  times.start = rates.start;
  times.first_pass = rates.first_pass_tokens * rates.first.source;
  times.later_passes = later * rates.later.source;
  times.training = rates.first_step + rates.first_pass_tokens * rates.first.training +
                   later * rates.later.training;
  const bool evaluates = rates.first_heldout > 0;
  if (evaluates) {
    times.evaluations =
        count_steps(rates.steps, [&](int64_t step) { return is_due(step, eval_every); });
    const auto count = static_cast<double>(times.evaluations);
    times.heldout = rates.first_heldout + (count - 1) * rates.heldout;
    times.decoding = count * rates.decoding;
  }
  // An evaluation that is the best so far is saved at once: most of them are.
  times.checkpoints = count_steps(rates.steps, [&](int64_t step) {
    return is_due(step, save_every) || (evaluates && is_due(step, eval_every));
  });
  times.saving = static_cast<double>(times.checkpoints) * rates.checkpoint;
  const int64_t lines =
      count_steps(rates.steps, [&](int64_t step) { return is_due(step, config.train.log_every); });
  times.records = static_cast<double>(lines + times.evaluations) * rates.record;
  return times;
}

double usual_acceptance(int64_t guesses) { return 2 - std::pow(0.5, static_cast<double>(guesses)); }

double checkpoint_disk(const RunConfig& config, double checkpoint_bytes) {
  return checkpoint_bytes * static_cast<double>(config.train.keep_checkpoints + 2);
}

}  // namespace aerie
