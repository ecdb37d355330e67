// How long a run will take and how much disk it will fill, from a few measured steps.
#pragma once
#include "configs/run_config.h"
#include "trainer/run_times.h"

namespace aerie {

/// Seconds that a token of a step takes.
struct TokenSeconds {
  double source = 0;    ///< to get its hidden states
  double training = 0;  ///< all else
};

/// What a dry run measured, and what it knows of the data.
struct RunRates {
  int64_t steps = 0;             ///< of the whole run
  double tokens = 0;             ///< of the whole run
  double first_pass_tokens = 0;  ///< of them those of the first pass; hybrid: that the store lacks
  TokenSeconds first, later;     ///< in the first pass, and in those behind it
  double first_step = 0;         ///< what the first step takes beyond others
  double start = 0;              ///< until then
  double first_heldout = 0;      ///< held-out documents: the first evaluation
  double heldout = 0;            ///< those behind it; both 0: nothing is held out
  double decoding = 0;           ///< of one evaluation
  double checkpoint = 0;         ///< of one
  double record = 0;             ///< a line of metrics.jsonl, and in the report
};

RunTimes estimate_time(const RunConfig& config, const RunRates& rates);
/// Acceptance length of chains of `guesses` tokens, each right in half of the cases: about what
/// drafts reach in the middle of their training. One that has seen nothing accepts less, and
/// decodes the longer for it.
double usual_acceptance(int64_t guesses);
/// Bytes that checkpoints take at most at a time: those kept, the best, the one being written.
double checkpoint_disk(const RunConfig& config, double checkpoint_bytes);

}  // namespace aerie
