#include "common/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace aerie {
namespace {

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("aerie", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made.set_pattern("%^[%H:%M:%S]%$ %v");
    return made;
  }();
  return instance;
}

}  // namespace

void log_info(const std::string& line) { logger().info(line); }
void log_warning(const std::string& line) { logger().warn("warning: {}", line); }
void log_quiet() { logger().set_level(spdlog::level::warn); }

}  // namespace aerie
