// aerie: trains EAGLE-3 drafts and proves them. The subcommands are in cli/.
#include <c10/util/Exception.h>

#include <cstdio>
#include <exception>
#include <string>

#include "cli/commands.h"
#include "common/memory.h"

namespace {

constexpr int kFailed = 1, kWrongUsage = 2;

int report(const std::string& message, int code = kFailed) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  return code;
}

int run(int argc, char** argv) {
  CLI::App app("Trains EAGLE-3 draft models and decodes with them.", "aerie");
  app.require_subcommand(1);
  using namespace aerie::cli;
  for (const auto add : {add_prepare, add_resample, add_dump, add_train, add_report, add_export,
                         add_generate, add_bench, add_serve, add_info}) {
    add(app);
  }
  add_version(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return report(usage_error(app, error), kWrongUsage);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  aerie::set_up_memory();
  try {
    return run(argc, argv);
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return report(error.what());
  }
}
