#include "decoding/load_report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "decoding/bench.h"

namespace aerie {

namespace {

Json seconds_json(const Percentiles& values) {
  return {{"p50", values.p50}, {"p95", values.p95}, {"p99", values.p99}, {"max", values.most}};
}

Json comparison_json(const std::optional<Comparison>& comparison) {
  if (!comparison) return nullptr;
  return {{"itl_p99_shorter", comparison->gaps},
          {"goodput", comparison->goodput},
          {"tokens_per_second", comparison->tokens}};
}

Json run_json(const LoadReport& report, const LoadRun& run) {
  Json json{{"policy", run.policy},
            {"row_budget", run.row_budget},
            {"arrivals", run.rate > 0 ? "poisson" : "closed"},
            {"rate", run.rate},
            {"streams", run.streams},
            {"requests", run.trace.requests.size()},
            {"seconds", run.trace.seconds},
            {"ttft_seconds", seconds_json(run.first_token)},
            {"itl_seconds", seconds_json(run.between_tokens)},
            {"e2e_seconds", seconds_json(run.whole)},
            {"tokens", run.tokens},
            {"tokens_per_second", run.tokens_per_second},
            {"requests_per_second", run.requests_per_second},
            {"goodput_requests_per_second", run.goodput},
            {"good_share", run.good_share},
            {"counts",
             {{"forwards", run.forwards},
              {"rows", run.rows},
              {"prompt_rows", run.prompt_rows},
              {"rejected_rows", run.rejected_rows},
              {"evictions", run.trace.evictions},
              {"shared_rows", run.trace.shared_rows}}},
            {"against_prefill_first", comparison_json(against_prefill_first(report, run))}};
  // A table's clock knows nothing of it, and its reports are the same everywhere.
  if (report.clock == "wall") json["time_split"] = time_split_json(run.trace.times);
  return json;
}

double over(double value, double base) {
  if (base > 0) return value / base;
  return value > 0 ? std::numeric_limits<double>::infinity() : 1;
}

}  // namespace

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(place);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (place - std::floor(place));
}

Percentiles percentiles_of(const std::vector<double>& values) {
  return {percentile(values, 0.5), percentile(values, 0.95), percentile(values, 0.99),
          percentile(values, 1)};
}

void summarise(LoadRun& run, const ServiceGoal& goal) {
  std::vector<double> first, between, whole;
  int64_t good = 0;
  run.tokens = 0;
  for (const RequestTrace& request : run.trace.requests) {
    first.push_back(request.first_token());
    whole.push_back(request.finished() - request.arrived);
    for (size_t i = 1; i < request.token_times.size(); ++i) {
      between.push_back(request.token_times[i] - request.token_times[i - 1]);
    }
    run.tokens += static_cast<int64_t>(request.token_times.size());
    good += request.first_token() <= goal.first_token_seconds &&
            request.slowest_stretch() <= goal.between_tokens_seconds;
  }
  run.first_token = percentiles_of(first);
  run.between_tokens = percentiles_of(between);
  run.whole = percentiles_of(whole);
  const double count = static_cast<double>(run.trace.requests.size());
  run.tokens_per_second = static_cast<double>(run.tokens) / run.trace.seconds;
  run.requests_per_second = count / run.trace.seconds;
  run.goodput = static_cast<double>(good) / run.trace.seconds;
  run.good_share = static_cast<double>(good) / count;
  run.forwards = static_cast<int64_t>(run.trace.steps.size());
  run.rows = run.prompt_rows = run.rejected_rows = 0;
  for (const StepTrace& step : run.trace.steps) {
    run.rows += step.rows;
    run.prompt_rows += step.prompt_rows;
    run.rejected_rows += step.rejected_rows;
  }
}

std::optional<Comparison> against_prefill_first(const LoadReport& report, const LoadRun& run) {
  const std::string base_policy = "prefill-first";
  const LoadRun* base = nullptr;
  for (const LoadRun& other : report.runs) {
    const bool same_load = other.rate == run.rate && other.streams == run.streams;
    if (other.policy != base_policy || !same_load) continue;
    if (base == nullptr || other.row_budget == run.row_budget) base = &other;
  }
  if (base == nullptr || run.policy == base_policy) return std::nullopt;
  return Comparison{over(base->between_tokens.p99, run.between_tokens.p99),
                    over(run.goodput, base->goodput),
                    over(run.tokens_per_second, base->tokens_per_second)};
}

std::string policy_label(const LoadRun& run) {
  return fmt::format("{}, {} rows", run.policy, run.row_budget);
}

std::string load_label(const LoadRun& run) {
  return run.rate > 0 ? fmt::format("{:.3g} requests/s", run.rate)
                      : fmt::format("{} streams", run.streams);
}

Json load_json(const LoadReport& report) {
  Json machine = Json::object(), settings = Json::object(), runs = Json::array();
  for (const auto& [key, value] : report.machine) machine[key] = value;
  for (const auto& [key, value] : report.settings) settings[key] = value;
  for (const LoadRun& run : report.runs) runs.push_back(run_json(report, run));
  return {{"machine", std::move(machine)},
          {"settings", std::move(settings)},
          {"target", report.target},
          {"draft", report.draft},
          {"clock", report.clock},
          {"max_sequences", report.max_sequences},
          {"goal",
           {{"ttft_seconds", report.goal.first_token_seconds},
            {"itl_seconds", report.goal.between_tokens_seconds}}},
          {"runs", std::move(runs)}};
}

}  // namespace aerie
