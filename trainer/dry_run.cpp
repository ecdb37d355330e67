#include "trainer/dry_run.h"

#include "common/log.h"
#include "trainer/memory_estimate.h"
#include "trainer/store_facts.h"

namespace aerie {
namespace {

void log_disk(const RunConfig& config, const DraftConfig& draft) {
  const auto bytes = static_cast<double>(checkpoint_bytes(draft, config.optim));
  log_info(fmt::format(
      "disk: {:.0f} MB a checkpoint, at most {:.2f} GB of them at a time ({} kept, "
      "the best, one being written)",
      bytes / 1e6, checkpoint_disk(config, bytes) / 1e9, config.train.keep_checkpoints));
}

void log_memory(const DryRunParts& parts, const DryRunMeasured& measured) {
  const TokenShards& shards = parts.shards;
  const double share =
      static_cast<double>(shards.supervised()) / static_cast<double>(shards.tokens());
  const auto element = static_cast<int64_t>(c10::elementSize(parts.target.dtype()));
  log_info("memory, estimated from shapes:\n" +
           format_memory(estimate_memory(parts.target.config(), parts.draft, parts.config,
                                         {element, share})));
  log_info(fmt::format("resident at most in {} steps{}: {:.0f} MB", measured.steps + 1,
                       measured.rates.first_heldout > 0 ? " and an evaluation" : "",
                       static_cast<double>(peak_resident_bytes()) / 1e6));
}

void log_time(const RunConfig& config, const DryRunMeasured& measured) {
  const RunRates& rates = measured.rates;
  log_info(fmt::format(
      "time of {} steps, {:.0f} tokens ({:.0f} tokens/s in {} steps here, loss {:.3f}):\n{}",
      rates.steps, rates.tokens, static_cast<double>(measured.tokens) / measured.seconds,
      measured.steps, measured.loss,
      format_time(time_parts(config.hidden_states.mode, estimate_time(config, rates)))));
}

}  // namespace

void dry_run(const DryRunParts& parts) {
  const DryRunMeasured measured = measure_run(parts);
  log_memory(parts, measured);
  log_time(parts.config, measured);
  log_disk(parts.config, parts.draft);
  if (parts.config.hidden_states.mode != "online") {
    log_info(describe_store_size(parts.config, Split::kTrain, parts.draft, parts.target.dtype(),
                                 parts.shards));
  }
}

void dry_run_from_shapes(const RunConfig& config, const ModelConfig& target,
                         const DraftConfig& draft, at::ScalarType dtype) {
  const auto element = static_cast<int64_t>(c10::elementSize(dtype));
  log_info(
      fmt::format("{} has a config.json and no weights: shapes only", config.target.path.string()));
  log_info("memory, estimated from shapes, every token supervised:\n" +
           format_memory(estimate_memory(target, draft, config, {element, 1.0})));
  log_disk(config, draft);
  if (config.hidden_states.mode != "online") {
    const int64_t row = hidden_format(config, draft, dtype).row_bytes();
    log_info(fmt::format("hidden states on disk: {} bytes a token, {:.2f} GB a million tokens", row,
                         static_cast<double>(row) / 1e3));
  }
}

}  // namespace aerie
