#include "common/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <ctime>

namespace aerie {
namespace {

std::atomic<bool> quiet = false;  // set once by main, read by everyone

/// One write a line, so that lines of several threads do not mix.
void write_line(const char* color, const std::string& line) {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  const char* reset = terminal ? "\033[0m" : "";
  const std::string text =
      fmt::format("{}[{:02}:{:02}:{:02}]{} {}\n", terminal ? color : "", local.tm_hour,
                  local.tm_min, local.tm_sec, reset, line);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

void log_info(const std::string& line) {
  if (!quiet) write_line("\033[32m", line);
}
void log_warning(const std::string& line) { write_line("\033[33m", "warning: " + line); }
void log_quiet() { quiet = true; }

}  // namespace aerie
