#include "kernels/machine.h"

#include <sched.h>
#include <unistd.h>

#include <fstream>

#include "common/threads.h"
#include "kernels/cpu/isa.h"

namespace aerie {
namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

int usable_cores() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

Machine describe_machine() {
  return {.cpu = cpu_name(),
          .instructions = cpu::isa_name(cpu::best_isa()),
          .cores = usable_cores(),
          .threads = num_threads(),
          .memory_bytes = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE)};
}

}  // namespace aerie
