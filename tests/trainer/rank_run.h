// A tiny run on several ranks, each a process of its own.
#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/child.h"
#include "tests/free_port.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/checkpoint.h"

namespace aerie::testing {

/// How a run's processes are started; "section.key=value" as on the command line.
struct RankSetting {
  int ranks = 1;
  std::vector<std::string> set = {};
  std::vector<std::string> set_on_last = {};  ///< on the last rank alone
  std::string master = "127.0.0.1";
  std::vector<fs::path> networks = {};  ///< namespaces, one a rank, each a machine; []: one machine
};

/// The processes of one run; kills what is left of them.
class RankRun {
 public:
  RankRun(const fs::path& directory, const std::string& name, const RankSetting& setting) {
    tiny_run(directory, name);  // writes what is missing, once
    const int port = free_port();
    for (int rank = 0; rank < setting.ranks; ++rank) {
      ChildSetting child;
      std::vector<std::string> set = setting.set;
      if (rank + 1 == setting.ranks) {
        set.insert(set.end(), setting.set_on_last.begin(), setting.set_on_last.end());
      }
      child.variables[kSetVariable] = fmt::format("{}", fmt::join(set, "\n"));
      if (setting.ranks > 1) {
        const bool machines = !setting.networks.empty();
        child.variables["RANK"] = std::to_string(rank);
        child.variables["WORLD_SIZE"] = std::to_string(setting.ranks);
        child.variables["LOCAL_RANK"] = std::to_string(machines ? 0 : rank);
        child.variables["LOCAL_WORLD_SIZE"] = std::to_string(machines ? 1 : setting.ranks);
        child.variables["MASTER_ADDR"] = setting.master;
        child.variables["MASTER_PORT"] = std::to_string(port);
        if (machines) child.network = setting.networks[static_cast<size_t>(rank)];
      }
      processes_.push_back(start_child("rank", directory, name, child));
    }
  }
  ~RankRun() {
    for (size_t rank = 0; rank < processes_.size(); ++rank) {
      if (processes_[rank] > 0) ::kill(processes_[rank], SIGKILL);
      wait(static_cast<int>(rank));
    }
  }
  RankRun(const RankRun&) = delete;
  RankRun& operator=(const RankRun&) = delete;

  void signal(int rank, int number) { ::kill(processes_[static_cast<size_t>(rank)], number); }
  /// -> a process's exit code, or minus the signal that ended it
  int wait(int rank) {
    pid_t& process = processes_[static_cast<size_t>(rank)];
    if (process > 0) codes_[rank] = wait_for(process);
    process = 0;
    return codes_[rank];
  }
  /// -> of all ranks
  std::vector<int> wait() {
    std::vector<int> codes;
    for (int rank = 0; rank < static_cast<int>(processes_.size()); ++rank) {
      codes.push_back(wait(rank));
    }
    return codes;
  }
  bool running(int rank) {
    pid_t& process = processes_[static_cast<size_t>(rank)];
    int status = 0;
    if (process <= 0 || ::waitpid(process, &status, WNOHANG) == 0) return process > 0;
    codes_[rank] = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    process = 0;
    return false;
  }

 private:
  std::vector<pid_t> processes_;
  std::map<int, int> codes_;
};

/// The message with which a rank of a run ended.
inline std::string message_of(const fs::path& directory, const std::string& name, int rank) {
  const fs::path file = directory / fmt::format("{}.error.{}", name, rank);
  return fs::exists(file) ? read_file(file) : "";
}

/// Waits until the run has a checkpoint of `step` or later, or has ended.
inline void wait_for_step(RankRun& run, const fs::path& output, int64_t step) {
  while (run.running(0)) {
    const auto latest = find_latest(output);
    if (latest && std::stoll(latest->filename().string().substr(5)) >= step) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

}  // namespace aerie::testing
