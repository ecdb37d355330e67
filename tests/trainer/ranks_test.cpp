// A run on several ranks: it trains what one process trains, goes on with another number of them,
// and ends with a word about the guilty when one dies.
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <cstdio>

#include "common/log.h"
#include "common/threads.h"
#include "tests/trainer/rank_run.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

using ::testing::AnyOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::RankRun;
using testing::RankSetting;
using testing::Scratch;
using testing::wait_for_step;

using Strings = std::vector<std::string>;

/// One rank's process. Its error goes into a file.
void run_rank() {
  const fs::path directory = std::getenv(testing::kRunVariable);
  const std::string name = std::getenv(testing::kNameVariable);
  const char* rank = std::getenv("RANK");
  log_quiet();
  set_num_threads(1);
  RunConfig config = testing::tiny_run(directory, name);
  config.train.epochs = 3;
  config = testing::with_settings(config, std::getenv(testing::kSetVariable));
  TrainFlags flags;
  flags.dtype = "float32";
  DumpFlags dump;
  dump.dtype = flags.dtype;
  try {
    name == "dump" ? dump_command(config, dump) : train_command(config, flags, {});
  } catch (const std::exception& error) {
    write_file_atomic(directory / fmt::format("{}.error.{}", name, rank ? rank : "0"),
                      error.what());
    std::_Exit(1);
  }
}
[[maybe_unused]] const bool kRuns = testing::register_child("rank", run_rank);

class RanksTest : public ::testing::Test {
 protected:
  void SetUp() override { log_quiet(); }
  fs::path output(const std::string& name) const { return directory_ / name; }
  std::string message(const std::string& name, int rank) const {
    return testing::message_of(directory_.path(), name, rank);
  }
  /// Runs to the end.
  void complete(const std::string& name, const RankSetting& setting) {
    RankRun run(directory_.path(), name, setting);
    ASSERT_THAT(run.wait(), Each(0)) << message(name, 0) << message(name, setting.ranks - 1);
  }
  Scratch directory_;
};

std::vector<double> column(const fs::path& output, const char* key) {
  std::ifstream file(output / "metrics.jsonl");
  std::vector<double> values;
  for (std::string line; std::getline(file, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row.at("kind") == "train") values.push_back(row.at(key));
  }
  return values;
}

std::string weights_and_moments(const fs::path& output) {
  return read_file(output / "latest/masters.safetensors") +
         read_file(output / "latest/moments.safetensors");
}

/// Only the order of f32 sums differs: 1e-6 of a step's gradient. AdamW divides small gradients by
/// their own size, so that a weight may differ by a little more after a whole run.
void expect_equal_up_to_rounding(const fs::path& left, const fs::path& right) {
  const TrainState one = read_state(left / "latest"), two = read_state(right / "latest");
  EXPECT_EQ(one.step, two.step);
  EXPECT_EQ(one.tokens, two.tokens);
  EXPECT_EQ(one.supervised, two.supervised);
  EXPECT_EQ(one.packs_per_step, two.packs_per_step);
  const auto norms = column(left, "grad_norm"), others = column(right, "grad_norm");
  ASSERT_EQ(norms.size(), others.size());
  EXPECT_NEAR(norms[0] / others[0], 1.0, 1e-6);
  const auto loss = column(left, "loss"), other_loss = column(right, "loss");
  for (size_t i = 0; i < loss.size(); ++i) EXPECT_NEAR(loss[i], other_loss[i], 2e-4) << i;
  const DraftParams mine = read_masters(left / "latest"), theirs = read_masters(right / "latest");
  for (const auto& [name, tensor] : mine.tensors) {
    const Tensor apart = (tensor - theirs.at(name)).abs();
    EXPECT_LT(apart.max().item<double>(), 1e-4) << name;
    EXPECT_LT(apart.mean().item<double>(), 1e-6) << name;
  }
}

TEST_F(RanksTest, TrainWhatOneProcessTrains) {
  complete("one", {.ranks = 1, .set = {"train.accumulate=6"}});
  complete("two", {.ranks = 2, .set = {"train.accumulate=3"}});
  complete("three", {.ranks = 3, .set = {"train.accumulate=2"}});
  ASSERT_GE(read_state(output("one") / "latest").step, 8);
  expect_equal_up_to_rounding(output("one"), output("two"));
  expect_equal_up_to_rounding(output("one"), output("three"));
}

TEST_F(RanksTest, TrainWhatOneProcessTrainsAlsoByComputingAgain) {
  complete("one", {.ranks = 1, .set = {"train.accumulate=4", "train.recompute=true"}});
  complete("two", {.ranks = 2, .set = {"train.accumulate=2", "train.recompute=true"}});
  complete("kept", {.ranks = 2, .set = {"train.accumulate=2"}});
  expect_equal_up_to_rounding(output("one"), output("two"));
  expect_equal_up_to_rounding(output("kept"), output("two"));
}

TEST_F(RanksTest, ZeroChangesNoBit) {
  for (const int ranks : {2, 3}) {
    const std::string plain = fmt::format("plain{}", ranks), zero = fmt::format("zero{}", ranks);
    complete(plain, {.ranks = ranks, .set = {"train.epochs=1"}});
    complete(zero, {.ranks = ranks, .set = {"train.epochs=1", "train.zero=1"}});
    EXPECT_TRUE(weights_and_moments(output(plain)) == weights_and_moments(output(zero)));
    EXPECT_EQ(column(output(plain), "loss"), column(output(zero), "loss"));
  }
}

TEST_F(RanksTest, ResumeExactlyAfterAKill) {
  const RankSetting setting{.ranks = 2, .set = {"train.zero=1"}};
  complete("whole", setting);
  {
    RankRun run(directory_.path(), "killed", setting);
    wait_for_step(run, output("killed"), 6);
    ASSERT_TRUE(run.running(0)) << "the run ended before it could be killed";
    for (int rank = 0; rank < 2; ++rank) run.signal(rank, SIGKILL);
    run.wait();
  }
  complete("killed", setting);
  EXPECT_TRUE(weights_and_moments(output("whole")) == weights_and_moments(output("killed")));
}

TEST_F(RanksTest, GoOnWithAnotherNumberOfRanks) {
  const Strings long_run{"train.epochs=8", "train.accumulate=3"};
  complete("whole", {.ranks = 2, .set = long_run});
  Strings zero = long_run;
  zero.emplace_back("train.zero=1");
  // train.accumulate stays: a step takes the six packs that it took on two ranks.
  int64_t wanted = 6;
  for (const RankSetting& setting :
       {RankSetting{.ranks = 2, .set = zero}, RankSetting{.ranks = 1, .set = long_run}}) {
    RankRun run(directory_.path(), "moved", setting);
    wait_for_step(run, output("moved"), wanted);
    ASSERT_TRUE(run.running(0)) << "the run ended before it could be stopped";
    for (int rank = 0; rank < setting.ranks; ++rank) run.signal(rank, SIGTERM);
    EXPECT_THAT(run.wait(), Each(0));
    wanted = read_state(output("moved") / "latest").step + 3;
  }
  complete("moved", {.ranks = 3, .set = zero});
  expect_equal_up_to_rounding(output("whole"), output("moved"));
}

TEST_F(RanksTest, ADeathEndsTheRunWithTheNameOfTheDead) {
  for (const int dead : {1, 0}) {
    const std::string name = fmt::format("dead{}", dead);
    RankRun run(directory_.path(), name, {.ranks = 3, .set = {"train.epochs=5000"}});
    wait_for_step(run, output(name), 3);
    const auto begin = std::chrono::steady_clock::now();
    run.signal(dead, SIGKILL);
    const std::vector<int> codes = run.wait();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(taken.count(), 20);
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == dead) continue;
      EXPECT_EQ(codes[static_cast<size_t>(rank)], 1);
      EXPECT_THAT(message(name, rank),
                  AnyOf(HasSubstr(fmt::format("rank {} has died", dead)),
                        HasSubstr(fmt::format("rank {} has ended or cannot be reached", dead))));
    }
    EXPECT_GE(read_state(*find_latest(output(name))).step, 3);
  }
}

TEST_F(RanksTest, AHangEndsTheRunWithinTheTimeLimit) {
  RankRun run(directory_.path(), "hung",
              {.ranks = 2, .set = {"train.epochs=5000", "train.rank_timeout=3"}});
  wait_for_step(run, output("hung"), 3);
  run.signal(1, SIGSTOP);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(run.wait(0), 1);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(taken.count(), 20);
  EXPECT_THAT(message("hung", 0), HasSubstr("rank 1 has died or hangs"));
}

TEST_F(RanksTest, ASignalToOneStopsAllAtTheSameStep) {
  RankRun run(directory_.path(), "stopped", {.ranks = 2, .set = {"train.epochs=5000"}});
  wait_for_step(run, output("stopped"), 3);
  run.signal(1, SIGTERM);
  EXPECT_THAT(run.wait(), Each(0));
  EXPECT_GE(read_state(output("stopped") / "latest").step, 3);
}

TEST_F(RanksTest, WhatEndsRankZeroIsToldToTheOthers) {
  write_file_atomic(directory_ / "file", "");
  RankRun run(directory_.path(), "failed",
              {.ranks = 2, .set = {"output.dir=" + (directory_ / "file").string()}});
  EXPECT_THAT(run.wait(), Each(1));
  EXPECT_THAT(message("failed", 1), HasSubstr("rank 0 ended: "));
}

TEST_F(RanksTest, RanksThatRunDifferentThingsAreRefused) {
  RankRun run(directory_.path(), "other", {.ranks = 2, .set_on_last = {"optim.lr=0.5"}});
  EXPECT_THAT(run.wait(), Each(1));
  for (const int rank : {0, 1}) {
    EXPECT_THAT(message("other", rank), HasSubstr("rank 1 runs something else than rank 0"));
    EXPECT_THAT(message("other", rank), HasSubstr("optim.lr: was 0.001, is 0.5"));
  }
}

TEST_F(RanksTest, OfflineEachReadsItsShareOfWhatEachHasStored) {
  const std::string store = "hidden_states.store=" + (directory_ / "store").string();
  complete("dump", {.ranks = 2, .set = {store}});
  EXPECT_TRUE(fs::exists(directory_ / "store/shard-00001.h5")) << "rank 1 stored nothing";
  complete("offline", {.ranks = 2, .set = {store, "hidden_states.mode=offline"}});
  complete("online", {.ranks = 2});
  EXPECT_TRUE(weights_and_moments(output("offline")) == weights_and_moments(output("online")));
}

TEST_F(RanksTest, HybridIsRefusedWithTheWayOut) {
  RankRun run(directory_.path(), "hybrid", {.ranks = 2, .set = {"hidden_states.mode=hybrid"}});
  EXPECT_THAT(run.wait(), Each(1));
  EXPECT_THAT(message("hybrid", 0), HasSubstr("Run aerie dump under the same launcher"));
}

/// Two machines: network namespaces with a cable between them.
class TwoHosts {
 public:
  TwoHosts() {
    made_ = command("ip netns add " + left_) && command("ip netns add " + right_) &&
            command(fmt::format("ip link add aerie0 netns {} type veth peer name aerie0 netns {}",
                                left_, right_)) &&
            address(left_, 1) && address(right_, 2);
  }
  ~TwoHosts() {
    for (const std::string& host : {left_, right_}) command("ip netns delete " + host);
  }
  TwoHosts(const TwoHosts&) = delete;
  TwoHosts& operator=(const TwoHosts&) = delete;
  bool made() const { return made_; }
  std::vector<fs::path> networks() const {
    return {fs::path("/run/netns") / left_, fs::path("/run/netns") / right_};
  }

 private:
  static bool command(const std::string& line) {
    const std::string silent = line + " >/dev/null 2>&1";
    return std::system(silent.c_str()) == 0;  // NOLINT(bugprone-command-processor)
  }
  static bool address(const std::string& host, int number) {
    return command(fmt::format("ip -n {} address add 10.77.0.{}/24 dev aerie0", host, number)) &&
           command(fmt::format("ip -n {} link set lo up", host)) &&
           command(fmt::format("ip -n {} link set aerie0 up", host));
  }
  std::string left_ = fmt::format("aerie-{}-left", ::getpid()),
              right_ = fmt::format("aerie-{}-right", ::getpid());
  bool made_ = false;
};

TEST_F(RanksTest, OnTwoMachines) {
  const TwoHosts hosts;
  RankSetting setting{.ranks = 2, .set = {"train.epochs=1"}};
  complete("loopback", setting);
  if (hosts.made()) {
    setting.master = "10.77.0.1";
    setting.networks = hosts.networks();
  } else {
    std::printf("no network namespaces here (iproute2, privileges): used loopback\n");
  }
  complete("machines", setting);
  EXPECT_TRUE(weights_and_moments(output("loopback")) == weights_and_moments(output("machines")));
}

}  // namespace
}  // namespace aerie
