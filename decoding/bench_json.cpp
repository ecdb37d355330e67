#include <algorithm>
#include <nlohmann/json.hpp>

#include "decoding/bench.h"

namespace aerie {

namespace {

Json run_json(const BenchRun& run) {
  const auto [fastest, slowest] = std::minmax_element(run.seconds.begin(), run.seconds.end());
  const double tokens = static_cast<double>(run.tokens);
  return {{"decoder", run.decoder},
          {"draft_tokens", run.draft_tokens},
          {"nodes", run.nodes},
          {"concurrency", run.concurrency},
          {"prompts", run.prompts},
          {"tokens", run.tokens},
          {"seconds", median(run.seconds)},
          {"tokens_per_second", tokens_per_second(run)},
          {"tokens_per_second_range", {tokens / *slowest, tokens / *fastest}},
          {"speedup", run.speedup},
          {"acceptance_length", run.acceptance_length},
          {"acceptance_ci95", run.acceptance_ci95},
          {"accept_rate", run.accept_rate},
          {"identical_outputs", run.identical_outputs},
          {"time_split", time_split_json(run.time_split)},
          {"counts",
           {{"forwards", run.counts.forwards},
            {"rows", run.counts.rows},
            {"prompt_rows", run.counts.prompt_rows},
            {"logit_rows", run.counts.logit_rows},
            {"rejected_rows", run.counts.rejected_rows}}}};
}

}  // namespace

Json time_split_json(const TimeSplit& times) {
  const double sum = times.target + times.draft + times.verify + times.schedule;
  return {{"target", times.target / sum},
          {"draft", times.draft / sum},
          {"verify", times.verify / sum},
          {"schedule", times.schedule / sum}};
}

Json bench_json(const BenchReport& report) {
  Json machine = Json::object(), runs = Json::array();
  for (const auto& [key, value] : report.machine) machine[key] = value;
  for (const BenchRun& run : report.runs) runs.push_back(run_json(run));
  return {{"machine", std::move(machine)},
          {"target", report.target},
          {"draft", report.draft},
          {"input", report.input},
          {"max_new_tokens", report.max_new_tokens},
          {"forced_lengths", report.forced_lengths},
          {"runs", std::move(runs)}};
}

}  // namespace aerie
