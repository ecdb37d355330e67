// What a load run comes to: latencies, throughput, and how many answers were good enough.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "data/json.h"
#include "decoding/load.h"

namespace aerie {

/// The value below which `share` of the values lie; between two values on the line through them. 0
/// if there are none.
double percentile(std::vector<double> values, double share);

struct Percentiles {
  double p50 = 0, p95 = 0, p99 = 0, most = 0;
};
Percentiles percentiles_of(const std::vector<double>& values);

/// An answer is good if its first token is in time and so is its slowest stretch.
struct ServiceGoal {
  double first_token_seconds = 1, between_tokens_seconds = 0.1;
};

/// A run over another of the same load: how many times shorter its longest gaps between tokens are
/// (p99), and how many times as many good answers and tokens it gives a second. Infinite where the
/// other one gives none.
struct Comparison {
  double gaps = 1, goodput = 1, tokens = 1;
};

/// One policy under one load.
struct LoadRun {
  std::string policy;
  int64_t row_budget = 0;
  double rate = 0;      ///< arrivals a second; 0: closed loop
  int64_t streams = 0;  ///< of the closed loop
  LoadTrace trace;
  // What `summarise` makes of the trace:
  Percentiles first_token, between_tokens, whole;  ///< seconds; between: every gap of every answer
  double tokens_per_second = 0, requests_per_second = 0, goodput = 0, good_share = 0;
  int64_t tokens = 0, forwards = 0, prompt_rows = 0, rejected_rows = 0, rows = 0;
};
void summarise(LoadRun& run, const ServiceGoal& goal);

struct LoadReport {
  std::string target, draft, clock;  ///< clock: "wall" or "table"
  std::vector<std::pair<std::string, std::string>> machine;
  /// What all runs have in common, as the command line has it.
  std::vector<std::pair<std::string, std::string>> settings;
  ServiceGoal goal;
  int64_t requests = 0, max_sequences = 0;
  std::vector<LoadRun> runs;
};
/// Against the prefill-first run of the same load, of the same row budget if there is one; null
/// for such a run itself and where there is none.
std::optional<Comparison> against_prefill_first(const LoadReport& report, const LoadRun& run);

/// "splitfuse, 512 rows" and "0.5 requests/s" or "8 streams".
std::string policy_label(const LoadRun& run);
std::string load_label(const LoadRun& run);
Json load_json(const LoadReport& report);
std::string load_html(const LoadReport& report);

}  // namespace aerie
