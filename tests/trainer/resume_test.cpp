// A run that is killed and started again ends with the same bits as one that was left alone.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error.h"
#include "common/log.h"
#include "tests/child.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/checkpoint.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using testing::ChildSetting;
using testing::kNameVariable;
using testing::kRunVariable;
using testing::Scratch;
using testing::tiny_run;
using testing::wait_for;

[[maybe_unused]] const bool kTrains = testing::register_child("train", [] {
  log_quiet();
  const RunConfig config = tiny_run(std::getenv(kRunVariable), std::getenv(kNameVariable));
  const char* settings = std::getenv(testing::kSetVariable);
  train_command(settings ? testing::with_settings(config, settings) : config, {}, {});
});

pid_t start_run(const fs::path& directory, const std::string& name,
                const ChildSetting& setting = {}) {
  return testing::start_child("train", directory, name, setting);
}

/// A child whose run has these lines of "section.key=value".
ChildSetting run_with(const std::string& lines) {
  return {.variables = {{testing::kSetVariable, lines}}};
}

int64_t lines_of(const fs::path& file) {
  const std::string content = read_file(file);
  return std::count(content.begin(), content.end(), '\n');
}

/// What a run's log says of its losses, line by line.
std::vector<std::string> losses_of(const fs::path& file) {
  std::vector<std::string> losses;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    const auto entry = nlohmann::json::parse(line);
    losses.push_back(fmt::format("{} {} {} {}", entry.at("kind").get<std::string>(),
                                 entry.at("step").dump(), entry.at("loss").dump(),
                                 entry.value("loss_k", nlohmann::json()).dump()));
  }
  return losses;
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
  EXPECT_EQ(losses_of(left / "metrics.jsonl"), losses_of(right / "metrics.jsonl"));
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

/// Kills the run at a random moment: while it starts, or up to `most` steps after where it stands.
/// -> how it ended
int start_and_kill(const fs::path& directory, const ChildSetting& setting, std::mt19937& random,
                   int64_t most) {
  const fs::path metrics = directory / "killed/metrics.jsonl";
  const int64_t begin = fs::exists(metrics) ? lines_of(metrics) : 0;
  const pid_t child = start_run(directory, "killed", setting);
  const bool early = random() % 4 == 0;
  const int64_t wanted = begin + 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(most));
  int status = 0;
  while (!early && (!fs::exists(metrics) || lines_of(metrics) < wanted)) {
    if (::waitpid(child, &status, WNOHANG) != 0) return WEXITSTATUS(status);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::this_thread::sleep_for(std::chrono::microseconds(random() % (early ? 400'000 : 10'000)));
  ::kill(child, SIGKILL);
  return wait_for(child);
}

TEST_F(Resume, IsExactAfterSigkillAtRandomMoments) {
  const int kills = testing::kills_wanted(4);
  // Two dozen steps for each kill: however fast the machine is, the run does not end before.
  const ChildSetting setting = run_with(fmt::format("train.epochs={}", kills));
  ASSERT_EQ(wait_for(start_run(directory_.path(), "undisturbed", setting)), 0);
  std::mt19937 random(3);
  for (int kill = 0; kill < kills; ++kill) {
    ASSERT_EQ(start_and_kill(directory_.path(), setting, random, 10), -SIGKILL) << "kill " << kill;
  }
  ASSERT_EQ(wait_for(start_run(directory_.path(), "killed", setting)), 0);
  expect_same_end(run("undisturbed"), run("killed"));
}

/// Starts the run and kills it as soon as it is seen to write a checkpoint. -> whether the kill
/// fell inside: the unfinished directory still lies there
bool kill_inside_a_checkpoint(const fs::path& directory, const ChildSetting& setting) {
  const fs::path run = directory / "killed";
  const int64_t begin = fs::exists(run / "latest") ? read_state(run / "latest").step : 0;
  const auto unfinished = [&run](int64_t least) {
    if (!fs::exists(run)) return false;
    for (const auto& entry : fs::directory_iterator(run)) {
      const std::string name = entry.path().filename().string();
      const bool is_one = name.starts_with("step-") && name.ends_with(".tmp");
      if (is_one && std::stoll(name.substr(5)) >= least) return true;
    }
    return false;
  };
  const pid_t child = start_run(directory, "killed", setting);
  while (!unfinished(begin + 2)) {
    if (::waitpid(child, nullptr, WNOHANG) != 0) {
      ADD_FAILURE() << "the run ended before a checkpoint was seen";
      return false;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  ::kill(child, SIGKILL);
  wait_for(child);
  return unfinished(begin + 2);
}

TEST_F(Resume, IsExactAfterKillsInsideCheckpoints) {
  const int kills = testing::kills_wanted(4);
  const ChildSetting setting =
      run_with(fmt::format("train.checkpoint_every=1\ntrain.epochs={}", 1 + kills / 4));
  ASSERT_EQ(wait_for(start_run(directory_.path(), "undisturbed", setting)), 0);
  int inside = 0;
  for (int kill = 0; kill < kills && !HasFailure(); ++kill) {
    inside += kill_inside_a_checkpoint(directory_.path(), setting);
  }
  EXPECT_GT(inside, 0) << "every checkpoint was done before the kill came: the test shows nothing";
  ASSERT_EQ(wait_for(start_run(directory_.path(), "killed", setting)), 0);
  expect_same_end(run("undisturbed"), run("killed"));
}

std::map<std::string, std::string> files_of(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    files[fs::relative(entry.path(), directory)] = hash_hex(read_file(entry.path()));
  }
  return files;
}

// The form of configs/quickstart.yaml: the first pass stores hidden states that later ones read,
// and deeper guesses train on fewer rows. The data fill several chunks and shards of the store.
TEST_F(Resume, OfAHybridRunIsExactAndSoIsItsStore) {
  testing::write_chats(directory_ / "train.jsonl", 400, 1);
  const int kills = testing::kills_wanted(5);
  const ChildSetting setting =
      run_with(fmt::format("hidden_states.mode=hybrid\nhidden_states.shard_bytes=2000000\n"
                           "train.depth_keep=0.6\ntrain.pack_tokens=256\ntrain.epochs={}\n"
                           "train.checkpoint_every=4\neval.every=12\ndata.cache={}",
                           2 + kills / 6, (directory_ / "hybrid_data").string()));
  ASSERT_EQ(wait_for(start_run(directory_.path(), "undisturbed", setting)), 0);
  ASSERT_TRUE(fs::exists(run("undisturbed") / "hidden_states/shard-00001.h5"));
  std::mt19937 random(9);
  for (int kill = 0; kill < kills; ++kill) {
    ASSERT_EQ(start_and_kill(directory_.path(), setting, random, 16), -SIGKILL) << "kill " << kill;
  }
  ASSERT_EQ(wait_for(start_run(directory_.path(), "killed", setting)), 0);
  expect_same_end(run("undisturbed"), run("killed"));
  EXPECT_EQ(files_of(run("undisturbed") / "hidden_states"),
            files_of(run("killed") / "hidden_states"));
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

TEST_F(Resume, AnOverrideGoesOnWithTheOtherValue) {
  const TrainState before = read_state(*find_latest(run("whole")));
  RunConfig config = tiny_run(directory_.path(), "whole");
  config.optim.lr = 5e-4;
  config.train.epochs = 2;
  TrainFlags flags;
  flags.resume_override = {"optim.lr"};
  EXPECT_NE(testing::error_of([&] {
              train_command(config, flags, {});
            }).find("train.epochs: was 1, is 2"),
            std::string::npos);
  flags.resume_override = {"optim.lr", "train.epochs"};
  train_command(config, flags, {});
  EXPECT_GT(read_state(*find_latest(run("whole"))).step, before.step);
  train_command(config, {}, {});  // the run is what it is now
}

TEST_F(Resume, OverriddenDataAreReadFromTheirStart) {
  const TrainState before = read_state(*find_latest(run("whole")));
  testing::write_chats(directory_ / "train.jsonl", 70, 9);
  RunConfig config = tiny_run(directory_.path(), "whole");
  config.train.epochs = 2;
  TrainFlags flags;
  flags.resume_override = {"data.train", "train.epochs"};
  train_command(config, flags, {});
  const TrainState after = read_state(*find_latest(run("whole")));
  EXPECT_GT(after.step, before.step);
  EXPECT_NE(after.cursor.substr(after.cursor.rfind(':')),
            before.cursor.substr(before.cursor.rfind(':')));
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

TEST_F(Resume, IsRefusedWhileAnotherRunIsThere) {
  const auto held = hold_run(run("whole"));
  EXPECT_THAT(
      testing::error_of([&] { train_command(tiny_run(directory_.path(), "whole"), {}, {}); }),
      ::testing::HasSubstr("whole: another process trains there"));
}

TEST_F(Resume, NeverIsRefusedWhereCheckpointsLie) {
  TrainFlags flags;
  flags.resume = "never";
  EXPECT_THAT(
      testing::error_of([&] { train_command(tiny_run(directory_.path(), "whole"), flags, {}); }),
      ::testing::HasSubstr("whole has checkpoints of an earlier run: choose another "
                           "output.dir"));
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
