// Results of a benchmark, and how they are written.
#pragma once
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "data/json.h"
#include "decoding/engine.h"

namespace aerie {

/// One way of decoding at one concurrency, over all prompts and repeats.
struct BenchRun {
  /// autoregressive | eagle3 | eagle3-tree | eagle3-adaptive | eagle3-tree-adaptive | ngram |
  /// diffusion | diffusion-unverified
  std::string decoder;
  std::string label, short_label;  ///< in tables and in plots
  int64_t nodes = 0;               ///< guesses verified a step: of a tree, else draft_tokens
  /// Of diffusion draft_tokens is the window.
  int64_t draft_tokens = 0, concurrency = 1, prompts = 0, tokens = 0;
  std::vector<double> seconds;  ///< per repeat
  double speedup = 1;  ///< against autoregressive at the same concurrency, median of the repeats
  double acceptance_length = 1;
  std::array<double, 2> acceptance_ci95{1, 1};
  std::vector<double> accept_rate;
  bool identical_outputs = true;  ///< in every repeat, token for token with the first run of all
  TimeSplit time_split;           ///< shares of the time, summing to 1
  EngineCounts counts;            ///< of one repeat
};

/// A piece of text and whether the draft had guessed it.
struct TextPiece {
  std::string text;
  bool guessed;
};
struct BenchExample {
  std::string id, prompt;
  double acceptance_length = 1;
  std::vector<TextPiece> pieces;
};

struct BenchReport {
  std::string target, draft, input;
  std::vector<std::pair<std::string, std::string>> machine;
  int64_t max_new_tokens = 0;
  bool forced_lengths = false;
  std::vector<BenchRun> runs;
  std::vector<BenchExample> examples;
};

double median(std::vector<double> values);
double tokens_per_second(const BenchRun& run);

/// Shares of the time, summing to 1.
Json time_split_json(const TimeSplit& times);
/// What bench.json holds; a contract with the scripts that read it.
Json bench_json(const BenchReport& report);
/// One page with its plots inside; needs nothing else.
std::string bench_html(const BenchReport& report);

}  // namespace aerie
