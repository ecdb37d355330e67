// This program again, as a process of its own: what the tests kill.
#pragma once
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

namespace aerie::testing {

constexpr const char* kRunVariable = "AERIE_TEST_RUN_DIRECTORY";
constexpr const char* kNameVariable = "AERIE_TEST_RUN_NAME";

/// What a child finds different from its parent.
struct ChildSetting {
  std::map<std::string, std::string> variables = {};
  std::filesystem::path network = {};  ///< a network namespace, as a file; "": the parent's
};

/// Starts the disabled test `test` ("Suite.DISABLED_Name"), which finds its run in the two
/// variables.
inline pid_t start_child(const char* test, const std::filesystem::path& directory,
                         const std::string& name, const ChildSetting& setting = {}) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::setenv(kRunVariable, directory.c_str(), 1);
  ::setenv(kNameVariable, name.c_str(), 1);
  for (const auto& [key, value] : setting.variables) ::setenv(key.c_str(), value.c_str(), 1);
  if (!setting.network.empty()) {
    const int network = ::open(setting.network.c_str(), O_RDONLY);
    if (network < 0 || ::setns(network, CLONE_NEWNET) != 0) ::_exit(126);
    ::close(network);
  }
  const std::string filter = std::string("--gtest_filter=") + test;
  ::execl(program.c_str(), "test_trainer", filter.c_str(), "--gtest_also_run_disabled_tests",
          "--gtest_brief=1", static_cast<char*>(nullptr));
  ::_exit(127);
}

/// How often a test of random kills kills: AERIE_KILLS, or `otherwise`.
inline int kills_wanted(int otherwise) {
  const char* wanted = std::getenv("AERIE_KILLS");
  return wanted ? std::atoi(wanted) : otherwise;
}

/// Waits for the process to end. -> its exit code, or minus the signal that ended it
inline int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace aerie::testing
