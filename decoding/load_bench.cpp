// aerie bench --load: latencies and throughput while requests come, on the machine's clock or on a
// table's.
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "decoding/autoregressive.h"
#include "decoding/commands.h"
#include "decoding/flags.h"
#include "decoding/load_report.h"
#include "decoding/sampler.h"
#include "decoding/table_model.h"
#include "decoding/text_target.h"
#include "kernels/machine.h"

namespace aerie {

namespace {

/// One load at which all policies and budgets are run.
struct Load {
  double rate = 0;
  int64_t streams = 0;
};

std::vector<Load> loads_of(const LoadFlags& flags) {
  std::vector<Load> loads;
  for (const double rate : flags.rates) {
    AERIE_CHECK(rate > 0, "--rate {}: requests a second must be above 0", rate);
    loads.push_back({rate, 0});
  }
  for (const int64_t streams : flags.streams) {
    AERIE_CHECK(streams > 0, "--streams {}: at least 1 must be under way", streams);
    loads.push_back({0, streams});
  }
  AERIE_CHECK(!loads.empty(), "--load needs --rate (requests a second) or --streams (closed loop)");
  return loads;
}

// Prompts of given lengths, drawn at random: their tokens do not matter where lengths are forced.
std::vector<Request> made_requests(const LoadFlags& flags, int64_t vocab) {
  const double lengths = static_cast<double>(flags.prompt_tokens.size());
  std::vector<Request> requests(flags.requests);
  for (int64_t i = 0; i < flags.requests; ++i) {
    requests[i].max_new_tokens = flags.max_new_tokens;
    const size_t which = static_cast<size_t>(counter_uniform(~flags.seed, i) * lengths);
    for (int64_t token = 0; token < flags.prompt_tokens[which]; ++token) {
      const double uniform = counter_uniform(flags.seed + i, token);
      requests[i].prompt.push_back(static_cast<int32_t>(uniform * static_cast<double>(vocab)));
    }
  }
  return requests;
}

std::vector<Request> requests_of(const LoadFlags& flags, const TextTarget& target) {
  if (!flags.prompt_tokens.empty()) return made_requests(flags, target.model->config().vocab);
  const std::vector<PromptRow> rows = read_prompts(flags.input);
  AERIE_CHECK(!rows.empty(), "{} has no rows", flags.input.string());
  const std::vector<Request> once =
      make_requests(target, rows, {flags.max_new_tokens, 0.0, flags.seed, flags.ignore_eos});
  std::vector<Request> requests;
  for (int64_t i = 0; i < flags.requests; ++i) requests.push_back(once[i % once.size()]);
  return requests;
}

/// What all runs have in common.
struct Bench {
  const LoadFlags& flags;
  const TargetModel& target;
  Decoder& decoder;
  const std::vector<Request>& requests;
  int64_t pages;
  std::optional<StepCost> cost;
  bool wall;  // the machine's clock, not the table's
};

LoadTrace run_once(const Bench& bench, const LoadRun& run, size_t count) {
  LoadPlan plan;
  plan.requests.assign(bench.requests.begin(), bench.requests.begin() + count);
  plan.streams = std::max<int64_t>(1, run.streams);
  if (run.rate > 0) {
    plan.arrivals = poisson_arrivals(static_cast<int64_t>(count), run.rate, bench.flags.seed);
  }
  EngineOptions options;
  options.limits = limits_of(bench.flags, run.policy, run.row_budget);
  options.pages = bench.pages;
  options.cost = bench.cost;
  options.learn_cost = bench.wall;
  Engine engine(bench.target, bench.decoder, std::move(options));
  if (bench.wall) {
    WallClock clock;
    return run_load(engine, plan, clock);
  }
  TableClock clock(*bench.cost);
  return run_load(engine, plan, clock);
}

// Policies take turns at each load: a machine that slows down slows all of them.
std::vector<LoadRun> runs_of(const LoadFlags& flags) {
  AERIE_CHECK(!flags.policies.empty(), "--policy names none");
  AERIE_CHECK(!flags.row_budget.empty(), "--row-budget names none");
  std::vector<LoadRun> runs;
  for (const Load& load : loads_of(flags)) {
    for (const std::string& policy : flags.policies) {
      for (const int64_t row_budget : flags.row_budget) {
        LoadRun run;
        run.policy = policy;
        run.row_budget = row_budget;
        run.rate = load.rate;
        run.streams = load.streams;
        runs.push_back(std::move(run));
      }
    }
  }
  return runs;
}

std::vector<LoadRun> run_all(const Bench& bench) {
  const LoadFlags& flags = bench.flags;
  std::vector<LoadRun> runs = runs_of(flags);
  if (bench.wall) {
    LoadRun warm;
    warm.policy = "splitfuse";
    warm.row_budget = kRowBudget;
    warm.streams = 2;
    run_once(bench, warm, std::min<size_t>(2, bench.requests.size()));
  }
  Progress progress("load", static_cast<int64_t>(runs.size()), "runs");
  int64_t done = 0;
  for (LoadRun& run : runs) {
    run.trace = run_once(bench, run, bench.requests.size());
    summarise(run, {flags.goal_first_ms / 1e3, flags.goal_between_ms / 1e3});
    progress.update(++done, policy_label(run));
  }
  progress.finish();
  return runs;
}

std::vector<std::pair<std::string, std::string>> settings_of(const LoadFlags& flags) {
  std::vector<std::pair<std::string, std::string>> settings{
      {"max_new_tokens", std::to_string(flags.max_new_tokens)},
      {"seed", std::to_string(flags.seed)}};
  const auto add = [&](const std::string& key, const std::string& value) {
    settings.emplace_back(key, value);
  };
  if (!flags.input.empty()) add("input", flags.input.string());
  if (!flags.prompt_tokens.empty()) {
    add("prompt_tokens", fmt::format("{}", fmt::join(flags.prompt_tokens, ",")));
  }
  if (flags.inter_token_ms > 0) add("inter_token_ms", fmt::format("{:g}", flags.inter_token_ms));
  if (flags.kv_tokens > 0) add("kv_tokens", std::to_string(flags.kv_tokens));
  if (flags.evict) add("evict", "yes");
  if (flags.prefix_cache) add("prefix_cache", "yes");
  if (flags.draft.empty()) return settings;
  add("draft_tokens", std::to_string(flags.draft_tokens));
  if (flags.tree) add("tree_nodes", std::to_string(flags.tree_nodes));
  if (flags.adaptive) add("adaptive", "yes");
  return settings;
}

LoadReport report_of(const LoadFlags& flags, std::vector<LoadRun> runs, bool wall) {
  LoadReport report;
  report.target = flags.target.string();
  report.draft = flags.draft.string();
  report.clock = wall ? "wall" : "table";
  report.settings = settings_of(flags);
  report.goal = {flags.goal_first_ms / 1e3, flags.goal_between_ms / 1e3};
  report.requests = flags.requests;
  report.max_sequences = flags.max_sequences;
  report.runs = std::move(runs);
  if (!wall) return report;
  const Machine machine = describe_machine();
  report.machine = {{"cpu", machine.cpu},
                    {"instructions", machine.instructions},
                    {"threads", std::to_string(machine.threads)}};
  return report;
}

std::string line_of(const LoadReport& report, const LoadRun& run) {
  std::string line = fmt::format(
      "{:>16} {:24} first token p50 {:5.0f} p99 {:5.0f} ms  between tokens p50 {:4.0f} p99 {:5.0f} "
      "ms  {:6.1f} tokens/s  good {:.2f}/s {:3.0f} %",
      load_label(run), policy_label(run), 1e3 * run.first_token.p50, 1e3 * run.first_token.p99,
      1e3 * run.between_tokens.p50, 1e3 * run.between_tokens.p99, run.tokens_per_second,
      run.goodput, 100 * run.good_share);
  const std::optional<Comparison> beside = against_prefill_first(report, run);
  if (!beside) return line;
  return line +
         fmt::format(
             "  (against prefill-first: gaps {:.1f}x shorter, good {:.2f}x, tokens {:+.1f} %)",
             beside->gaps, beside->goodput, 100 * (beside->tokens - 1));
}

void write_report(const LoadFlags& flags, const LoadReport& report) {
  write_file_atomic(flags.output / "load.json", load_json(report).dump(1) + "\n");
  write_file_atomic(flags.output / "report.html", load_html(report));
  for (const LoadRun& run : report.runs) log_info(line_of(report, run));
  log_info("report: " + (flags.output / "report.html").string());
  if (flags.json) std::printf("%s\n", load_json(report).dump().c_str());
}

int64_t pages_of(const LoadFlags& flags, int64_t wanted) {
  return flags.kv_tokens > 0 ? PageTable::pages_for(flags.kv_tokens) : wanted;
}

// The same on every machine: a target without weights, and time from the table.
std::vector<LoadRun> run_on_table(const LoadFlags& flags) {
  AERIE_CHECK(!flags.prompt_tokens.empty(),
              "--clock-table needs --prompt-tokens: it runs without a model");
  AERIE_CHECK(flags.draft.empty(),
              "--clock-table runs without a model, so that no draft can guess: leave --draft out");
  const auto longest = std::max_element(flags.prompt_tokens.begin(), flags.prompt_tokens.end());
  const TableModel target(*longest + flags.max_new_tokens + 1);
  AutoregressiveDecoder decoder;
  const std::vector<Request> requests = made_requests(flags, target.config().vocab);
  const int64_t pages = pages_of(flags, pages_for_requests(requests, flags.max_sequences));
  return run_all(
      {flags, target, decoder, requests, pages, StepCost::read(flags.clock_table), false});
}

std::vector<LoadRun> run_on_machine(const LoadFlags& flags) {
  AERIE_CHECK(!flags.prompt_tokens.empty() || !flags.input.empty(),
              "--load needs prompts: --input FILE, or --prompt-tokens N for made ones");
  const TextTarget target(flags.target, flags.device, flags.dtype);
  const std::unique_ptr<Decoder> decoder =
      make_decoder("", flags.draft, speculation_of(flags, flags.draft_tokens), *target.model);
  const std::vector<Request> requests = requests_of(flags, target);
  const int64_t pages = pages_of(flags, target.pages_for(requests, flags.max_sequences));
  std::optional<StepCost> cost;
  if (flags.measure_clock || needs_cost(flags, flags)) {
    cost = measure_step_cost(*target.model, kRowBudget);
  }
  if (flags.measure_clock) cost->write(flags.output / "clock.json");
  return run_all({flags, *target.model, *decoder, requests, pages, cost, true});
}

}  // namespace

void load_command(const LoadFlags& flags) {
  make_output_directory(flags.output, "--output");
  const bool wall = flags.clock_table.empty();
  write_report(flags, report_of(flags, wall ? run_on_machine(flags) : run_on_table(flags), wall));
}

}  // namespace aerie
