// How long a run will take and how much disk it will fill, from a few measured steps.
#pragma once
#include <string>
#include <vector>

#include "configs/run_config.h"

namespace aerie {

/// What a dry run measured, and what it knows of the data.
struct RunRates {
  int64_t steps = 0;              ///< of the whole run
  double tokens = 0;              ///< of the whole run
  double first_pass_tokens = 0;   ///< of them those of the first epoch
  double source_per_token = 0;    ///< seconds: the target's forward, or reading
  double training_per_token = 0;  ///< seconds: all else of a step
  double evaluation_seconds = 0;  ///< of one; 0: nothing is held out
  double checkpoint_bytes = 0;    ///< of one
  double store_bytes = 0;         ///< that the run will write to hidden_states.store
  double write_bytes_per_second = 1;
};

struct TimePart {
  std::string name;
  double seconds = 0;
};

/// By part. In hybrid mode the target runs in the first pass only: later ones read ahead while the
/// draft trains.
std::vector<TimePart> estimate_time(const RunConfig& config, const RunRates& rates);
/// Bytes that checkpoints take at most at a time: those kept, the best, the one being written.
double checkpoint_disk(const RunConfig& config, double checkpoint_bytes);
/// A line a part with its share, and the total.
std::string format_time(const std::vector<TimePart>& parts);

}  // namespace aerie
