// Log lines on stderr. Results never go here: they go to files, or to stdout with --json.
#pragma once
#include <string>

namespace aerie {

void log_info(const std::string& line);
void log_warning(const std::string& line);
/// Nothing below warnings from now on (--quiet).
void log_quiet();

}  // namespace aerie
