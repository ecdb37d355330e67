// aerie dump: killed and started again it leaves the bytes of an undisturbed dump.
#include "trainer/dump.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <random>

#include "common/log.h"
#include "tests/child.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using testing::kNameVariable;
using testing::kRunVariable;
using testing::Scratch;
using testing::wait_for;

/// Enough rows for several shards, and each of several chunks.
RunConfig dump_run(const fs::path& directory, const std::string& name) {
  if (!fs::exists(directory / "train.jsonl")) {
    testing::write_tiny_target(directory / "target");
    testing::write_chats(directory / "train.jsonl", 600, 1);
    testing::write_chats(directory / "heldout.jsonl", 8, 2);
  }
  RunConfig config = testing::tiny_run(directory, name);
  config.hidden_states.store = directory / name;
  config.hidden_states.shard_bytes = 2'000'000;
  return config;
}

[[maybe_unused]] const bool kDumps = testing::register_child("dump", [] {
  log_quiet();
  dump_command(dump_run(std::getenv(kRunVariable), std::getenv(kNameVariable)), {});
});

pid_t start_dump(const fs::path& directory, const std::string& name) {
  return testing::start_child("dump", directory, name);
}

std::map<std::string, std::string> contents(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    files[fs::relative(entry.path(), directory)] = hash_hex(read_file(entry.path()));
  }
  return files;
}

class Dump : public ::testing::Test {
 protected:
  void SetUp() override {
    log_quiet();
    dump_run(directory_.path(), "whole");
    ASSERT_EQ(wait_for(start_dump(directory_.path(), "whole")), 0);
  }
  fs::path store(const std::string& name) const { return directory_.path() / name; }

  /// Kills the dump at random moments and starts it again, until one ends by itself. -> kills
  int kill_until_it_ends(const std::string& name, std::mt19937& random) const {
    int killed = 0;
    // The child gets longer each time, so that it ends some day however slow the machine is.
    for (unsigned attempt = 0; attempt < 60; ++attempt) {
      const pid_t child = start_dump(directory_.path(), name);
      ::usleep(1000 * (50 + 30 * attempt + static_cast<unsigned>(random() % 200)));
      ::kill(child, SIGKILL);
      const int code = wait_for(child);
      if (code == 0) break;
      EXPECT_EQ(code, -SIGKILL) << "the dump failed by itself";
      ++killed;
    }
    return killed;
  }

  Scratch directory_;
};

TEST_F(Dump, IsExactAfterSigkillAtRandomMoments) {
  ASSERT_TRUE(fs::exists(store("whole") / "shard-00002.h5"));
  std::mt19937 random(5);
  for (int killed = 0, round = 0; killed < testing::kills_wanted(1); ++round) {
    const std::string name = fmt::format("killed-{}", round);
    const int more = kill_until_it_ends(name, random);
    ASSERT_GT(more, 0) << "the dump ended before it could be killed";
    killed += more;
    ASSERT_EQ(wait_for(start_dump(directory_.path(), name)), 0);
    EXPECT_EQ(contents(store("whole")), contents(store(name)));
    fs::remove_all(store(name));
  }
}

TEST_F(Dump, SigtermStopsAndTheSameCommandGoesOn) {
  const pid_t child = start_dump(directory_.path(), "stopped");
  while (!fs::exists(store("stopped") / "shard-00000.h5.journal")) {
    ASSERT_EQ(::waitpid(child, nullptr, WNOHANG), 0) << "the dump ended early";
    ::usleep(1000);
  }
  ::kill(child, SIGTERM);
  ASSERT_EQ(wait_for(child), 0);
  ASSERT_EQ(wait_for(start_dump(directory_.path(), "stopped")), 0);
  EXPECT_EQ(contents(store("whole")), contents(store("stopped")));
}

TEST_F(Dump, ADoneDumpDoesNothing) {
  const auto before = contents(store("whole"));
  ASSERT_EQ(wait_for(start_dump(directory_.path(), "whole")), 0);
  EXPECT_EQ(contents(store("whole")), before);
}

}  // namespace
}  // namespace aerie
