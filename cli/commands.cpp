#include "cli/commands.h"

#include <ATen/Parallel.h>

#include "common/log.h"
#include "common/threads.h"
#include "kernels/device.h"
#include "kernels/rank_place.h"

namespace aerie::cli {

void add_common_flags(CLI::App& command, CommonFlags& common) {
  command.add_option("--device", common.device, "where to compute: cpu, cuda or cuda:N")
      ->capture_default_str();
  command.add_option("--dtype", common.dtype, "weights and activations")
      ->check(CLI::IsMember({"bfloat16", "float32"}))
      ->capture_default_str();
  command.add_option("--threads", common.threads, "compute threads; default: every core")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--quiet", common.quiet, "warnings and errors only");
}

void add_config_flags(CLI::App& command, CommonFlags& common, bool config_required) {
  command.add_option("--config", common.config, "run file (YAML)")->required(config_required);
  command.add_option("--set", common.set, "override a key of the run file: section.key=value")
      ->allow_extra_args(false);
}

void add_config_help(CLI::App& command) {
  command
      .add_flag_callback(
          "--help-config",
          [] {
            fmt::print("{}", describe_run_config());
            throw CLI::Success();
          },
          "every key of a run file with default and unit")
      ->trigger_on_parse();
}

void apply(CommonFlags& common) {
  at::set_num_threads(1);  // work that pays in parallel goes through common/threads.h
  // A launcher's processes share this machine's cores and devices.
  const RankPlace place = rank_place();
  if (common.threads == 0 && place.local_ranks > 1) {
    common.threads = std::max(1, num_threads() / place.local_ranks);
  }
  if (common.device == "cuda") common.device = fmt::format("cuda:{}", place.local_rank);
  if (common.threads > 0) set_num_threads(common.threads);
  if (common.quiet) log_quiet();
  common.device = parse_device(common.device).str();  // "cuda" becomes "cuda:0"
}

}  // namespace aerie::cli
