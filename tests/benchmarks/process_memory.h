// Resident memory of this process, as Linux counts it.
#pragma once
#include <cstdlib>
#include <fstream>
#include <string>

namespace aerie::testing {

/// A figure of /proc/self/status in bytes: VmRSS is resident now, VmHWM its peak. 0: there is none.
inline double status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":"))
      return std::strtod(line.c_str() + key.size() + 1, nullptr) * 1024;
  }
  return 0;
}

/// The peak begins anew.
inline void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace aerie::testing
