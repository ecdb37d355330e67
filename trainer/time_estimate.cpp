#include "trainer/time_estimate.h"

#include <fmt/format.h>

#include <algorithm>

namespace aerie {
namespace {

/// How often something happens that is due every so many steps, and at the end.
int64_t times(int64_t steps, int64_t every) {
  if (every <= 0) return 1;
  return steps / every + (steps % every != 0);
}

std::string duration(double seconds) {
  return seconds < 120 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.1f} min", seconds / 60);
}

}  // namespace

std::vector<TimePart> estimate_time(const RunConfig& config, const RunRates& rates) {
  const bool hybrid = config.hidden_states.mode == "hybrid";
  const double sourced = hybrid ? rates.first_pass_tokens : rates.tokens;
  const bool offline = config.hidden_states.mode == "offline";
  std::vector<TimePart> parts{
      {offline ? "waiting for stored hidden states" : "the target's forward pass",
       sourced * rates.source_per_token},
      {"training the draft", rates.tokens * rates.training_per_token}};
  if (hybrid) {
    parts.push_back({"storing hidden states", rates.store_bytes / rates.write_bytes_per_second});
  }
  if (rates.evaluation_seconds > 0) {
    const int64_t evaluations = times(rates.steps, config.eval.every);
    parts.push_back({fmt::format("{} evaluations", evaluations),
                     static_cast<double>(evaluations) * rates.evaluation_seconds});
  }
  const int64_t checkpoints = times(rates.steps, config.train.checkpoint_every);
  parts.push_back(
      {fmt::format("{} checkpoints", checkpoints),
       static_cast<double>(checkpoints) * rates.checkpoint_bytes / rates.write_bytes_per_second});
  return parts;
}

double checkpoint_disk(const RunConfig& config, double checkpoint_bytes) {
  return checkpoint_bytes * static_cast<double>(config.train.keep_checkpoints + 2);
}

std::string format_time(const std::vector<TimePart>& parts) {
  double total = 0;
  for (const TimePart& part : parts) total += part.seconds;
  std::string text;
  for (const TimePart& part : parts) {
    text += fmt::format("  {:<52} {:>12}  {:3.0f} %\n", part.name, duration(part.seconds),
                        100 * part.seconds / std::max(total, 1e-9));
  }
  return text + fmt::format("  {:<52} {:>12}\n", "total", duration(total));
}

}  // namespace aerie
