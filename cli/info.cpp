// aerie info: what this build and this machine are, or what a directory is.
#include <torch/version.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/inspect.h"
#include "kernels/machine.h"
#include "kernels/ops.h"

namespace aerie::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InfoFlags {
  CommonFlags common;
  std::string directory;
  bool json = false;
};

Json build_and_machine() {
  const Machine machine = describe_machine();
  return {
      {"build",
       {{"version", AERIE_VERSION},
        {"type", AERIE_BUILD_TYPE},
        {"compiler", "GCC " __VERSION__},
        {"libtorch", TORCH_VERSION}}},
      {"machine",
       {{"cpu", machine.cpu},
        {"instructions", machine.instructions},
        {"cores", machine.cores},
        {"threads", machine.threads},
        {"memory_bytes", machine.memory_bytes},
        {"read_bandwidth_bytes_per_second", ops::measure_read_bandwidth()}}},
  };
}

void print_build_and_machine(const Json& info) {
  const Json &build = info["build"], &machine = info["machine"];
  const auto text = [](const Json& value) { return value.get<std::string>(); };
  constexpr double kGigabyte = 1e9;
  fmt::print("aerie      {}, {} build, {}, LibTorch {}\n", text(build["version"]),
             text(build["type"]), text(build["compiler"]), text(build["libtorch"]));
  fmt::print("cpu        {}, kernels for {}\n", text(machine["cpu"]),
             text(machine["instructions"]));
  fmt::print("threads    {} on {} cores\n", machine["threads"].get<int>(),
             machine["cores"].get<int>());
  fmt::print("memory     {:.1f} GB, read at {:.1f} GB/s\n",
             machine["memory_bytes"].get<double>() / kGigabyte,
             machine["read_bandwidth_bytes_per_second"].get<double>() / kGigabyte);
}

void print_facts(const Json& facts) {
  for (const auto& [name, value] : facts.items()) {
    fmt::print("{:<24} {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  fmt::print("sound\n");
}

void info_command(const InfoFlags& flags) {
  const Json info = flags.directory.empty() ? build_and_machine() : inspect(flags.directory);
  if (flags.json) {
    fmt::print("{}\n", info.dump(2));
  } else if (flags.directory.empty()) {
    print_build_and_machine(info);
  } else {
    print_facts(info);
  }
}

}  // namespace

void add_version(CLI::App& app) {
  app.set_version_flag("--version", "aerie " AERIE_VERSION)->description("which Aerie this is");
}

void add_info(CLI::App& app) {
  const auto flags = std::make_shared<InfoFlags>();
  CLI::App* command =
      app.add_subcommand("info", "what this build and machine are, or what a directory is");
  command->add_option(
      "DIR", flags->directory,
      "a target, draft (also .gguf), checkpoint, run, token shards or hidden-state store: what it "
      "is, and whether it is sound");
  command->add_flag("--json", flags->json, "machine-readable, on stdout");
  add_common_flags(*command, flags->common);
  command->callback([flags] {
    apply(flags->common);
    info_command(*flags);
  });
}

}  // namespace aerie::cli
