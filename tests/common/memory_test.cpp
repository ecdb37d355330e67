#include "common/memory.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

namespace aerie {
namespace {

/// The flags of the mapping that holds the address (man 5 proc_pid_smaps).
std::string flags_of(const void* address) {
  const auto wanted = reinterpret_cast<unsigned long>(address);
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin <= wanted && wanted < end;
    } else if (inside && line.starts_with("VmFlags:")) {
      return line + " ";
    }
  }
  return "";
}

/// Pages that the process has had to ask the system for.
long faults() {
  std::ifstream file("/proc/self/stat");
  std::stringstream rest;
  rest << file.rdbuf();
  std::string field;
  long count = 0;
  for (int i = 0; i < 9; ++i) rest >> field;
  rest >> count;
  return count;
}

/// In a process of its own: what malloc is told holds for good.
int in_child(int (*body)()) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(Memory, BlocksOfActivationsLieInTheHeapThatWantsHugePages) {
  const int code = in_child([] {
    set_up_memory();
    const char* block = static_cast<char*>(std::malloc(20 << 20));
    return flags_of(block + (10 << 20)).find(" hg ") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

TEST(Memory, AFreedBlockComesBackWithoutPageFaults) {
  const int code = in_child([] {
    set_up_memory();
    const auto use = [] {
      void* block = std::malloc(20 << 20);
      std::memset(block, 1, 20 << 20);
      std::free(block);
    };
    use();
    const long before = faults();
    for (int i = 0; i < 10; ++i) use();
    return faults() - before < 100 ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace aerie
