#include "trainer/run_times.h"

#include <fmt/format.h>

#include <algorithm>

namespace aerie {
namespace {

std::string duration(double seconds) {
  return seconds < 120 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.1f} min", seconds / 60);
}

/// "6 evaluations", "1 evaluation"
std::string counted(int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

}  // namespace

std::vector<TimePart> time_parts(const std::string& mode, const RunTimes& times) {
  std::vector<TimePart> parts{{"start", times.start}};
  if (mode == "hybrid") {
    parts.push_back({"first pass: the target's forward, storing", times.first_pass});
    parts.push_back({"later passes: waiting for stored states", times.later_passes});
  } else {
    parts.push_back({mode == "offline" ? "waiting for stored states" : "the target's forward pass",
                     times.first_pass + times.later_passes});
  }
  parts.push_back({"training the draft", times.training});
  if (times.evaluations > 0) {
    const std::string evaluations = counted(times.evaluations, "evaluation");
    parts.push_back({evaluations + ": held-out documents", times.heldout});
    if (times.decoding > 0) parts.push_back({evaluations + ": decoding", times.decoding});
  }
  parts.push_back({counted(times.checkpoints, "checkpoint"), times.saving});
  parts.push_back({"metrics and report", times.records});
  return parts;
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
