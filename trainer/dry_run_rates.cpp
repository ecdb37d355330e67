#include "trainer/dry_run_rates.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "trainer/report.h"
#include "trainer/run_report.h"
#include "trainer/stop_signal.h"
#include "trainer/stopwatch.h"

namespace aerie {
namespace {

// Steps are measured until both are reached, or the data end.
constexpr int64_t kSteps = 4;
constexpr double kSeconds = 6;

struct Steps {
  int64_t count = 0, tokens = 0;
  TimeSplit seconds;
  UnrollMetrics metrics{0};  // of the last
  StepReport report;

  double training() const { return seconds.total() - seconds.source; }
  TokenSeconds per_token() const {
    const double each = 1 / static_cast<double>(std::max<int64_t>(1, tokens));
    return {seconds.source * each, training() * each};
  }
};

/// One step and what it took; false at the end of the data, or of `epoch`.
bool add_step(const DryRunParts& parts, int64_t epoch, Steps& steps) {
  if (parts.trainer.state().step >= parts.trainer.total_steps()) return false;
  UnrollMetrics metrics(parts.config.train.unroll);
  const StepReport report = parts.trainer.step(metrics);
  if (!report.trained || report.epoch > epoch) return false;
  ++steps.count;
  steps.tokens += metrics.tokens();
  steps.seconds.add(report.seconds);
  steps.metrics = std::move(metrics);
  steps.report = report;
  return true;
}

/// At most `most` steps.
Steps take_steps(const DryRunParts& parts, int64_t epoch, int64_t most) {
  Steps steps;
  while (steps.count < most && (steps.count < kSteps || steps.seconds.total() < kSeconds)) {
    if (!add_step(parts, epoch, steps)) break;
  }
  return steps;
}

/// Reads again what the first steps have stored. Before the first of it can be read the store is
/// published, which costs the first pass what it wrote.
void measure_stored(const DryRunParts& parts, const std::string& begin, const Steps& stored,
                    RunRates& rates) {
  parts.train.seek(begin);
  rates.later = {0, rates.first.training};
  Steps opening;
  if (!add_step(parts, 0, opening)) return;
  rates.first.source += opening.seconds.source / static_cast<double>(stored.tokens);
  const Steps later = take_steps(parts, 0, stored.count - 1);
  if (later.count > 0) rates.later = later.per_token();
}

/// The first step warms up: it counts only where there is no other.
Steps measure_steps(const DryRunParts& parts, RunRates& rates) {
  const bool hybrid = parts.config.hidden_states.mode == "hybrid";
  const std::string begin = parts.train.cursor();
  const int64_t whole = int64_t{1} << 40, epoch = hybrid ? 0 : whole;
  Steps warm;
  AERIE_CHECK(add_step(parts, epoch, warm), "the data hold no batch that trains: see data.train");
  Steps steps = take_steps(parts, epoch, whole);
  const bool alone = steps.count == 0;
  if (alone) steps = warm;
  rates.first = rates.later = steps.per_token();
  const double usual = static_cast<double>(warm.tokens) * rates.first.training;
  rates.first_step = std::max(0.0, warm.training() - usual);
  if (hybrid) {
    Steps stored = steps;
    if (!alone) stored.count += warm.count, stored.tokens += warm.tokens;
    measure_stored(parts, begin, stored, rates);
  }
  return steps;
}

void count_tokens(const DryRunParts& parts, const Steps& steps, RunRates& rates) {
  const RunConfig& config = parts.config;
  const auto pass =
      static_cast<double>(sum_rows(trained_rows(parts.shards, config.train.pack_tokens)));
  rates.steps = parts.trainer.total_steps();
  const double a_step = static_cast<double>(steps.tokens) / static_cast<double>(steps.count);
  rates.tokens = config.train.max_steps > 0 ? a_step * static_cast<double>(rates.steps)
                                            : pass * static_cast<double>(config.train.epochs);
  const int64_t missing = rows_to_make(config, parts.draft, parts.target.dtype(), parts.shards);
  rates.first_pass_tokens = std::min(static_cast<double>(missing), rates.tokens);
}

void measure_evaluation(const DryRunParts& parts, RunRates& rates) {
  const Evaluation first = parts.trainer.evaluate();
  rates.first_heldout = rates.heldout = first.seconds - first.decoding_seconds;
  if (parts.config.hidden_states.mode == "hybrid") {
    rates.heldout = parts.trainer.evaluate(/*decodes=*/false).seconds;
  }
  if (!first.acceptance) return;
  const double usual = usual_acceptance(parts.config.decode.draft_tokens);
  rates.decoding = first.decoding_seconds * std::min(1.0, first.acceptance->length / usual);
}

/// Seconds of a line of metrics.jsonl, with its share of the report.
double measure_records(const DryRunParts& parts, const Steps& steps, const fs::path& directory) {
  constexpr int64_t kLines = 64;
  Stopwatch watch;
  {
    RunLog log(directory, 0, 0);
    for (int64_t i = 0; i < kLines; ++i) {
      log.write(train_line(parts.trainer.state(), steps.metrics, steps.report));
    }
  }
  const std::vector<RunHistory> run{read_history(directory)};
  write_file_atomic(directory / "report.html", run_report(run));
  return watch.lap() / static_cast<double>(kLines);
}

/// Leaves by the way that removes what was written.
void leave_if_asked(const StopSignal& stop) {
  AERIE_CHECK(!stop.requested(), "the dry run was stopped: nothing is left of it");
}

}  // namespace

PassingDirectory::PassingDirectory(const fs::path& place) {
  std::string name = (nearest_existing(place) / ".aerie-dry-run-XXXXXX").string();
  AERIE_CHECK(::mkdtemp(name.data()),
              "{}: no directory can be made ({}): a dry run writes a few "
              "files where the run will",
              name, std::strerror(errno));
  path_ = name;
}

PassingDirectory::~PassingDirectory() {
  std::error_code ignored;  // what stays is named so that a user sees whence it comes
  fs::remove_all(path_, ignored);
}

DryRunMeasured measure_run(const DryRunParts& parts) {
  DryRunMeasured measured;
  RunRates& rates = measured.rates;
  rates.start = parts.start;
  const StopSignal stop;
  const Steps steps = measure_steps(parts, rates);
  leave_if_asked(stop);
  count_tokens(parts, steps, rates);
  measured.steps = steps.count;
  measured.tokens = steps.tokens;
  measured.seconds = steps.seconds.total();
  measured.loss = steps.metrics.loss();
  if (!parts.config.data.heldout.empty()) measure_evaluation(parts, rates);
  leave_if_asked(stop);
  const PassingDirectory files(parts.config.output.dir);
  rates.checkpoint = parts.trainer.time_checkpoint(files.path());
  rates.record = measure_records(parts, steps, files.path());
  return measured;
}

}  // namespace aerie
