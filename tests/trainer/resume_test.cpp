// A run that is killed and started again ends with the same bits as one that was left alone.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "common/error.h"
#include "common/log.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/checkpoint.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using testing::Scratch;
using testing::tiny_run;

constexpr const char* kRunVariable = "AERIE_TEST_RUN_DIRECTORY";
constexpr const char* kNameVariable = "AERIE_TEST_RUN_NAME";

/// Runs inside the process that start_run makes; it is no test of its own.
TEST(ResumeChild, DISABLED_Trains) {
  const char* directory = std::getenv(kRunVariable);
  ASSERT_NE(directory, nullptr);
  log_quiet();
  train_command(tiny_run(directory, std::getenv(kNameVariable)), {}, {});
}

/// This program again, as a process of its own that trains.
pid_t start_run(const fs::path& directory, const std::string& name) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::setenv(kRunVariable, directory.c_str(), 1);
  ::setenv(kNameVariable, name.c_str(), 1);
  ::execl("/proc/self/exe", "test_trainer", "--gtest_filter=ResumeChild.DISABLED_Trains",
          "--gtest_also_run_disabled_tests", "--gtest_brief=1", static_cast<char*>(nullptr));
  ::_exit(127);
}

/// Waits for the run to end. -> its exit code, or minus the signal that ended it
int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int64_t lines_of(const fs::path& file) {
  const std::string content = read_file(file);
  return std::count(content.begin(), content.end(), '\n');
}

/// Every byte of weights, moments and vocabulary of the final checkpoints, and their place.
void expect_same_end(const fs::path& left, const fs::path& right) {
  const TrainState one = read_state(*find_latest(left)), two = read_state(*find_latest(right));
  EXPECT_EQ(one.step, two.step);
  EXPECT_EQ(one.updates, two.updates);
  EXPECT_EQ(one.tokens, two.tokens);
  EXPECT_EQ(one.cursor, two.cursor);
  EXPECT_EQ(one.best.step, two.best.step);
  for (const char* file : {"masters.safetensors", "moments.safetensors", "draft/model.safetensors",
                           "draft/config.json"}) {
    EXPECT_EQ(hash_hex(read_file(left / "latest" / file)),
              hash_hex(read_file(right / "latest" / file)))
        << file;
  }
  EXPECT_EQ(lines_of(left / "metrics.jsonl"), lines_of(right / "metrics.jsonl"));
}

class Resume : public ::testing::Test {
 protected:
  void SetUp() override {
    log_quiet();
    ASSERT_EQ(wait_for(start_run(directory_.path(), "whole")), 0);
  }
  fs::path run(const char* name) const { return directory_ / name; }
  Scratch directory_;
};

TEST_F(Resume, IsExactAfterSigkillAtRandomMoments) {
  std::mt19937 random(3);
  int killed = 0;
  // The child gets longer each time, so that it ends some day however slow the machine is.
  for (int attempt = 0; attempt < 40; ++attempt) {
    const pid_t child = start_run(directory_.path(), "killed");
    const auto moment = std::chrono::milliseconds(100 + 40 * attempt + random() % 400);
    std::this_thread::sleep_for(moment);
    ::kill(child, SIGKILL);
    const int code = wait_for(child);
    if (code == 0) break;
    ASSERT_EQ(code, -SIGKILL) << "the run failed by itself";
    ++killed;
  }
  EXPECT_GT(killed, 0) << "the run ended before it could be killed";
  ASSERT_EQ(wait_for(start_run(directory_.path(), "killed")), 0);
  expect_same_end(run("whole"), run("killed"));
}

TEST_F(Resume, SigtermFinishesTheStepSavesAndExitsCleanly) {
  const pid_t child = start_run(directory_.path(), "stopped");
  while (!fs::exists(run("stopped") / "metrics.jsonl") ||
         lines_of(run("stopped") / "metrics.jsonl") < 2) {
    ASSERT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "the run ended early";
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::kill(child, SIGTERM);
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(read_state(*find_latest(run("stopped"))).metrics_position,
            static_cast<int64_t>(fs::file_size(run("stopped") / "metrics.jsonl")));
  ASSERT_EQ(wait_for(start_run(directory_.path(), "stopped")), 0);
  expect_same_end(run("whole"), run("stopped"));
}

TEST_F(Resume, IsRefusedWithTheDiffWhereTheConfigurationDiffers) {
  RunConfig config = tiny_run(directory_.path(), "whole");
  config.optim.lr = 5e-4;
  config.train.unroll = 4;
  config.train.keep_checkpoints = 7;  // does not matter
  try {
    train_command(config, {}, {});
    FAIL() << "another run was resumed";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("optim.lr: was 0.001, is 0.0005"), std::string::npos) << message;
    EXPECT_NE(message.find("train.unroll: was 3, is 4"), std::string::npos) << message;
    EXPECT_EQ(message.find("keep_checkpoints"), std::string::npos) << message;
  }
}

TEST_F(Resume, IsRefusedWhereTheDataHaveChanged) {
  std::ofstream(directory_ / "train.jsonl", std::ios::app)
      << R"({"id":"new","conversations":[{"role":"user","content":"hi"},)"
      << R"({"role":"assistant","content":"a new answer"}]})"
      << "\n";
  try {
    train_command(tiny_run(directory_.path(), "whole"), {}, {});
    FAIL() << "a run was resumed on other data";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("data.train"), std::string::npos) << error.what();
  }
}

TEST_F(Resume, NeverIsRefusedWhereCheckpointsLie) {
  TrainFlags flags;
  flags.resume = "never";
  EXPECT_THROW(train_command(tiny_run(directory_.path(), "whole"), flags, {}), Error);
}

TEST_F(Resume, KeepsTheLastCheckpointsAndTheBest) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(run("whole"))) {
    const std::string name = entry.path().filename().string();
    EXPECT_FALSE(name.ends_with(".tmp")) << name;
    count += name.starts_with("step-");
  }
  EXPECT_LE(count, 3);
  const TrainState state = read_state(*find_latest(run("whole")));
  EXPECT_EQ(read_state(run("whole") / "best").step, state.best.step);
  EXPECT_EQ(state.best.metric, "tau_sim");
}

}  // namespace
}  // namespace aerie
