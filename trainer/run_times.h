// Where the seconds of a run go: one list of parts, estimated before the run (time_estimate) and
// measured in it (Trainer::times), so that the two can be laid side by side.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace aerie {

/// Seconds by part.
struct RunTimes {
  double start = 0;         ///< until the first step: prepared data, weights, buffers
  double first_pass = 0;    ///< getting the hidden states of the first pass over the data; where
                            ///< the run fills a store, with writing them
  double later_passes = 0;  ///< the same of the passes behind it
  double training = 0;      ///< the draft's forward, backward and update
  double heldout = 0;       ///< evaluations: loss and accuracies of held-out documents
  double decoding = 0;      ///< evaluations: held-out prompts decoded
  double saving = 0;        ///< checkpoints
  double records = 0;       ///< metrics.jsonl, TensorBoard's files, report.html
  int64_t evaluations = 0, checkpoints = 0;
};

struct TimePart {
  std::string name;
  double seconds = 0;
};

/// The parts under the names that fit `mode` (hidden_states.mode); those that such a run does not
/// have are left out.
std::vector<TimePart> time_parts(const std::string& mode, const RunTimes& times);
/// A line a part with its share, and the total.
std::string format_time(const std::vector<TimePart>& parts);

}  // namespace aerie
