// aerie bench --load: latencies and throughput while requests come, on the machine's clock or on a
// table's.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "decoding/autoregressive.h"
#include "decoding/clock_table.h"
#include "decoding/commands.h"
#include "decoding/load_report.h"
#include "decoding/sampler.h"
#include "decoding/table_model.h"
#include "decoding/text_target.h"
#include "kernels/machine.h"

namespace aerie {

namespace {

/// One load at which all budgets are run.
struct Load {
  double rate = 0;
  int64_t streams = 0;
};

std::vector<Load> loads_of(const LoadFlags& flags) {
  std::vector<Load> loads;
  for (const double rate : flags.rates) loads.push_back({rate, 0});
  for (const int64_t streams : flags.streams) loads.push_back({0, streams});
  AERIE_CHECK(!loads.empty(), "--load needs --rate (requests a second) or --streams (closed loop)");
  return loads;
}

// Prompts of given length: their tokens do not matter where lengths are forced.
std::vector<Request> made_requests(const LoadFlags& flags, int64_t vocab) {
  std::vector<Request> requests(flags.requests);
  for (int64_t i = 0; i < flags.requests; ++i) {
    requests[i].max_new_tokens = flags.max_new_tokens;
    for (int64_t token = 0; token < flags.prompt_tokens; ++token) {
      const double uniform = counter_uniform(flags.seed + i, token);
      requests[i].prompt.push_back(static_cast<int32_t>(uniform * static_cast<double>(vocab)));
    }
  }
  return requests;
}

std::vector<Request> requests_of(const LoadFlags& flags, const TextTarget& target) {
  if (flags.input.empty()) return made_requests(flags, target.model->config().vocab);
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
  const ClockTable* table;  // null: the machine's clock
};

LoadTrace run_once(const Bench& bench, int64_t row_budget, const Load& load, size_t count) {
  LoadPlan plan;
  plan.requests.assign(bench.requests.begin(), bench.requests.begin() + count);
  plan.streams = std::max<int64_t>(1, load.streams);
  if (load.rate > 0) {
    plan.arrivals = poisson_arrivals(static_cast<int64_t>(count), load.rate, bench.flags.seed);
  }
  EngineOptions options;
  options.limits.max_sequences = bench.flags.max_sequences;
  options.limits.row_budget = row_budget;
  options.pages = bench.pages;
  Engine engine(bench.target, bench.decoder, std::move(options));
  if (bench.table == nullptr) {
    WallClock clock;
    return run_load(engine, plan, clock);
  }
  TableClock clock([&](int64_t rows) { return bench.table->seconds(rows); });
  return run_load(engine, plan, clock);
}

// Budgets take turns at each load: a machine that slows down slows all of them.
std::vector<LoadRun> run_all(const Bench& bench) {
  const LoadFlags& flags = bench.flags;
  const std::vector<Load> loads = loads_of(flags);
  if (bench.table == nullptr) {
    run_once(bench, kRowBudget, {0, 2}, std::min<size_t>(2, bench.requests.size()));
  }
  Progress progress("load", static_cast<int64_t>(loads.size() * flags.row_budget.size()), "runs");
  std::vector<LoadRun> runs;
  for (const Load& load : loads) {
    for (const int64_t row_budget : flags.row_budget) {
      LoadRun run;
      run.policy = "splitfuse";
      run.row_budget = row_budget;
      run.rate = load.rate;
      run.streams = load.streams;
      run.trace = run_once(bench, row_budget, load, bench.requests.size());
      summarise(run, {flags.goal_first_ms / 1e3, flags.goal_between_ms / 1e3});
      runs.push_back(std::move(run));
      progress.update(static_cast<int64_t>(runs.size()));
    }
  }
  progress.finish();
  return runs;
}

LoadReport report_of(const LoadFlags& flags, std::vector<LoadRun> runs, bool wall) {
  LoadReport report;
  report.target = flags.target.string();
  report.draft = flags.draft.string();
  report.clock = wall ? "wall" : "table";
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

void write_report(const LoadFlags& flags, const LoadReport& report) {
  std::filesystem::create_directories(flags.output);
  write_file_atomic(flags.output / "load.json", load_json(report).dump(1) + "\n");
  write_file_atomic(flags.output / "report.html", load_html(report));
  for (const LoadRun& run : report.runs) {
    log_info(
        fmt::format("{:13} rows {:<4} {:>5.3g}/s x{:<3} first token p50 {:5.0f} ms  between tokens "
                    "p50 {:4.0f} p99 "
                    "{:4.0f} ms  {:6.1f} tokens/s  good {:3.0f} %",
                    run.policy, run.row_budget, run.rate, run.streams, 1e3 * run.first_token.p50,
                    1e3 * run.between_tokens.p50, 1e3 * run.between_tokens.p99,
                    run.tokens_per_second, 100 * run.good_share));
  }
  log_info("report: " + (flags.output / "report.html").string());
  if (flags.json) std::printf("%s\n", load_json(report).dump().c_str());
}

// The same on every machine: a target without weights, and time from the table.
std::vector<LoadRun> run_on_table(const LoadFlags& flags) {
  AERIE_CHECK(flags.prompt_tokens > 0,
              "--clock-table needs --prompt-tokens: it runs without a model");
  const ClockTable table = ClockTable::read(flags.clock_table);
  const TableModel target(flags.prompt_tokens + flags.max_new_tokens + 1);
  AutoregressiveDecoder decoder;
  const std::vector<Request> requests = made_requests(flags, target.config().vocab);
  const int64_t pages = pages_for_requests(requests, flags.max_sequences);
  return run_all({flags, target, decoder, requests, pages, &table});
}

}  // namespace

void load_command(const LoadFlags& flags) {
  if (!flags.clock_table.empty()) {
    write_report(flags, report_of(flags, run_on_table(flags), false));
    return;
  }
  AERIE_CHECK(flags.prompt_tokens > 0 || !flags.input.empty(),
              "--load needs prompts: --input FILE, or --prompt-tokens N for made ones");
  const TextTarget target(flags.target, flags.device, flags.dtype);
  std::unique_ptr<Decoder> decoder = std::make_unique<AutoregressiveDecoder>();
  if (!flags.draft.empty()) {
    decoder = make_eagle3_decoder(load_draft(flags.draft, target.model->config()), *target.model,
                                  flags.draft_tokens);
  }
  const std::vector<Request> requests = requests_of(flags, target);
  const int64_t pages = target.pages_for(requests, flags.max_sequences);
  const Bench bench{flags, *target.model, *decoder, requests, pages, nullptr};
  write_report(flags, report_of(flags, run_all(bench), true));
  if (flags.measure_clock) {
    measure_clock(*target.model).write(flags.output / "clock.json");
  }
}

}  // namespace aerie
