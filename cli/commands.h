// The subcommands of `aerie`: their flags, and which room does the work.
#pragma once
#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "cli/usage.h"
#include "configs/run_config.h"

namespace aerie::cli {

/// Flags of every command.
struct CommonFlags {
  std::string config;            ///< a run file; "": none
  std::vector<std::string> set;  ///< "section.key=value"
  std::string device = "cpu", dtype = "bfloat16";
  int threads = 0;  ///< 0: every core that the process may use
  bool quiet = false;
};

/// Each adds one subcommand, which runs as soon as the command line has been parsed.
void add_resample(CLI::App& app);
void add_prepare(CLI::App& app);
void add_dump(CLI::App& app);
void add_train(CLI::App& app);
void add_report(CLI::App& app);
void add_export(CLI::App& app);
void add_generate(CLI::App& app);
void add_bench(CLI::App& app);
void add_serve(CLI::App& app);
void add_info(CLI::App& app);
/// --version, of `app` itself.
void add_version(CLI::App& app);

/// Adds the common flags to `command`; `common` outlives it.
void add_common_flags(CLI::App& command, CommonFlags& common);
/// Adds --config and --set; `config_required` for commands that are described by a run file.
void add_config_flags(CLI::App& command, CommonFlags& common, bool config_required);
/// Adds --help-config, which prints every key of a run file and ends the program.
void add_config_help(CLI::App& command);
/// Sets threads and logging and finds the device ("cuda": one for each local rank): the first thing
/// that a command does. Throws Error for a device that is not there.
void apply(CommonFlags& common);

}  // namespace aerie::cli
