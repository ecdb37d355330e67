// This program again, as a process of its own: what the tests kill.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

namespace aerie::testing {

constexpr const char* kChildVariable = "AERIE_TEST_CHILD";
constexpr const char* kRunVariable = "AERIE_TEST_RUN_DIRECTORY";
constexpr const char* kNameVariable = "AERIE_TEST_RUN_NAME";

/// Its stdout goes nowhere: a child's success is no news, its failures are.
class FailuresOnly : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed()) std::fprintf(stderr, "child: %s\n", result.message());
  }
};

class ChildBody : public ::testing::Test {
 public:
  explicit ChildBody(void (*body)()) : body_(body) {}
  void TestBody() override { body_(); }

 private:
  void (*body_)();
};

/// Makes `body` what start_child(name) runs. It is a test in such a process only: in any other
/// nothing is there to be listed, skipped or reported as disabled.
inline bool register_child(const char* name, void (*body)()) {
  const char* wanted = std::getenv(kChildVariable);
  if (wanted == nullptr || std::string(wanted) != name) return false;
  ::testing::UnitTest::GetInstance()->listeners().Append(new FailuresOnly);
  ::testing::RegisterTest("Child", name, nullptr, nullptr, __FILE__, __LINE__,
                          [body] { return new ChildBody(body); });
  return true;
}

/// What a child finds different from its parent.
struct ChildSetting {
  std::map<std::string, std::string> variables = {};
  std::filesystem::path network = {};  ///< a network namespace, as a file; "": the parent's
};

/// Starts what was registered under `child`; it finds its run in the two variables.
inline pid_t start_child(const char* child, const std::filesystem::path& directory,
                         const std::string& name, const ChildSetting& setting = {}) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  const pid_t process = ::fork();
  if (process != 0) return process;
  ::setenv(kChildVariable, child, 1);
  ::setenv(kRunVariable, directory.c_str(), 1);
  ::setenv(kNameVariable, name.c_str(), 1);
  for (const auto& [key, value] : setting.variables) ::setenv(key.c_str(), value.c_str(), 1);
  if (!setting.network.empty()) {
    const int network = ::open(setting.network.c_str(), O_RDONLY);
    if (network < 0 || ::setns(network, CLONE_NEWNET) != 0) ::_exit(126);
    ::close(network);
  }
  ::dup2(::open("/dev/null", O_WRONLY), STDOUT_FILENO);
  ::execl(program.c_str(), program.c_str(), "--gtest_filter=Child.*", static_cast<char*>(nullptr));
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
