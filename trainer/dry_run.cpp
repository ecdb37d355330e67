#include "trainer/dry_run.h"

#include <unistd.h>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "trainer/memory_estimate.h"
#include "trainer/stopwatch.h"
#include "trainer/store_facts.h"
#include "trainer/stored_source.h"
#include "trainer/time_estimate.h"

namespace aerie {
namespace {

// Steps are measured until both are reached, or the data end.
constexpr int64_t kSteps = 4;
constexpr double kSeconds = 6;

struct Measured {
  int64_t steps = 0, tokens = 0;
  TimeSplit seconds;
  double loss = 0;
};

/// One step and what it took; false at the end of the data.
bool add_step(const RunConfig& config, Trainer& trainer, Measured& measured) {
  UnrollMetrics metrics(config.train.unroll);
  if (trainer.state().step >= trainer.total_steps()) return false;
  const StepReport report = trainer.step(metrics);
  if (!report.trained) return false;
  ++measured.steps;
  measured.tokens += metrics.tokens();
  measured.seconds.add(report.seconds);
  measured.loss = metrics.loss();
  return true;
}

/// The first step warms up: it counts only where there is no other.
Measured measure_steps(const RunConfig& config, Trainer& trainer) {
  Measured first, others;
  AERIE_CHECK(add_step(config, trainer, first),
              "the data hold no batch that trains: see data.train");
  while (others.steps < kSteps || others.seconds.total() < kSeconds) {
    if (!add_step(config, trainer, others)) break;
  }
  return others.steps > 0 ? others : first;
}

/// Bytes a second that reach the disk of `directory`.
double write_rate(const fs::path& directory) {
  const std::string bytes(size_t{64} << 20, 'x');
  fs::path place = fs::absolute(directory);
  while (!fs::exists(place)) place = place.parent_path();
  const fs::path file = place / fmt::format(".aerie-dry-run-{}", ::getpid());
  Stopwatch watch;
  write_file_atomic(file, bytes);
  const double seconds = watch.lap();
  fs::remove(file);
  return static_cast<double>(bytes.size()) / std::max(seconds, 1e-9);
}

RunRates rates_of(const RunConfig& config, const TokenShards& shards, const Measured& measured,
                  int64_t steps) {
  RunRates rates;
  const auto tokens = static_cast<double>(measured.tokens);
  const auto pass = static_cast<double>(sum_rows(trained_rows(shards, config.train.pack_tokens)));
  rates.steps = steps;
  rates.tokens = config.train.max_steps > 0
                     ? tokens / static_cast<double>(measured.steps) * static_cast<double>(steps)
                     : pass * static_cast<double>(config.train.epochs);
  rates.first_pass_tokens = std::min(pass, rates.tokens);
  rates.source_per_token = measured.seconds.source / tokens;
  rates.training_per_token = (measured.seconds.total() - measured.seconds.source) / tokens;
  return rates;
}

void log_disk(const RunConfig& config, const RunRates& rates) {
  log_info(fmt::format(
      "disk: {:.0f} MB a checkpoint, at most {:.2f} GB of them at a time ({} kept, "
      "the best, one being written)",
      rates.checkpoint_bytes / 1e6, checkpoint_disk(config, rates.checkpoint_bytes) / 1e9,
      config.train.keep_checkpoints));
}

}  // namespace

void dry_run(const RunConfig& config, const DraftConfig& draft, const TargetModel& target,
             const TokenShards& shards, Trainer& trainer) {
  const at::ScalarType dtype = target.dtype();
  const int64_t steps = trainer.total_steps();
  const Measured measured = measure_steps(config, trainer);
  RunRates rates = rates_of(config, shards, measured, steps);
  if (!config.data.heldout.empty()) rates.evaluation_seconds = trainer.evaluate().seconds;
  rates.checkpoint_bytes = static_cast<double>(checkpoint_bytes(draft, config.optim));
  rates.write_bytes_per_second = write_rate(config.output.dir);
  if (config.hidden_states.mode == "hybrid") {
    rates.store_bytes = rates.first_pass_tokens *
                        static_cast<double>(hidden_format(config, draft, dtype).row_bytes());
  }
  const double share =
      static_cast<double>(shards.supervised()) / static_cast<double>(shards.tokens());
  const auto element = static_cast<int64_t>(c10::elementSize(dtype));
  log_info("memory, estimated from shapes:\n" +
           format_memory(estimate_memory(target.config(), draft, config, {element, share})));
  log_info(fmt::format("resident at most in {} steps{}: {:.0f} MB", measured.steps + 1,
                       rates.evaluation_seconds > 0 ? " and an evaluation" : "",
                       static_cast<double>(peak_resident_bytes()) / 1e6));
  log_info(fmt::format(
      "time of {} steps, {:.0f} tokens ({:.0f} tokens/s in {} steps here, loss "
      "{:.3f}):\n{}",
      steps, rates.tokens, static_cast<double>(measured.tokens) / measured.seconds.total(),
      measured.steps, measured.loss, format_time(estimate_time(config, rates))));
  log_disk(config, rates);
  if (config.hidden_states.mode != "online") {
    log_info(describe_store_size(config, Split::kTrain, draft, dtype, shards));
  }
}

void dry_run_from_shapes(const RunConfig& config, const ModelConfig& target,
                         const DraftConfig& draft, at::ScalarType dtype) {
  const auto element = static_cast<int64_t>(c10::elementSize(dtype));
  log_info(
      fmt::format("{} has a config.json and no weights: shapes only", config.target.path.string()));
  log_info("memory, estimated from shapes, every token supervised:\n" +
           format_memory(estimate_memory(target, draft, config, {element, 1.0})));
  RunRates rates;
  rates.checkpoint_bytes = static_cast<double>(checkpoint_bytes(draft, config.optim));
  log_disk(config, rates);
  if (config.hidden_states.mode != "online") {
    const int64_t row = hidden_format(config, draft, dtype).row_bytes();
    log_info(fmt::format("hidden states on disk: {} bytes a token, {:.2f} GB a million tokens", row,
                         static_cast<double>(row) / 1e3));
  }
}

}  // namespace aerie
