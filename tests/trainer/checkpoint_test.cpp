#include "trainer/checkpoint.h"

#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>

#include "draft_models/dialects.h"
#include "tests/testing.h"
#include "tests/trainer/tiny_draft.h"

namespace aerie {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::Scratch;
using testing::tiny_draft;

/// A file system of 8 MiB in memory over `directory`.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& directory)
      : directory_(directory),
        mounted_(::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=8m") == 0) {}
  ~SmallDisk() {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  fs::path directory_;
  bool mounted_;
};

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    for (auto& [name, tensor] : params_.tensors) tensor.grad().normal_();
    optimizer_.step(0.01, 1.0);
  }
  void save(int64_t step) {
    state_.step = step;
    state_.updates = optimizer_.updates();
    const Moments moments = optimizer_.moments();
    save_checkpoint(run(), {state_, config_, params_, vocab_, moments, "train: {}\n"});
  }
  const fs::path& run() const { return directory_.path(); }
  std::string masters() const { return read_file(run() / "latest" / "masters.safetensors"); }
  /// What the failed writing of step 20 must have said and left.
  void expect_only_step_10(const std::string& message, const std::string& masters_before) const {
    EXPECT_THAT(message, HasSubstr("step-000020 was not written"));
    EXPECT_THAT(message, HasSubstr("earlier ones are untouched"));
    EXPECT_FALSE(fs::exists(run() / "step-000020"));
    EXPECT_FALSE(fs::exists(run() / "step-000020.tmp"));
    EXPECT_EQ(find_latest(run())->filename(), "step-000010");
    EXPECT_EQ(masters(), masters_before);
  }

  Scratch directory_;
  DraftConfig config_ = tiny_draft(64, 200, 100);
  VocabMap vocab_ = make_vocab_map(at::arange(100) * 2, 200);
  DraftParams params_ = init_draft(config_, {}, 1);
  Optimizer optimizer_{params_, OptimSection{}};
  TrainState state_;
};

TEST_F(CheckpointTest, GivesBackEverything) {
  state_.tokens = 12345;
  state_.supervised = 6789;
  state_.seconds = 1.5;
  state_.skipped_steps = 2;
  state_.metrics_position = 99;
  state_.seed = 0xfedcba9876543210u;
  state_.packs_per_step = 6;
  state_.cursor = "1:2:abc";
  state_.best = {7, 1.75, "acceptance"};
  state_.facts = {{"optim.lr", "0.001"}};
  save(7);
  const TrainState read = read_state(run() / "latest");
  EXPECT_EQ(read.step, 7);
  EXPECT_EQ(read.updates, 1);
  EXPECT_EQ(read.tokens, 12345);
  EXPECT_EQ(read.supervised, 6789);
  EXPECT_EQ(read.seconds, 1.5);
  EXPECT_EQ(read.skipped_steps, 2);
  EXPECT_EQ(read.metrics_position, 99);
  EXPECT_EQ(read.seed, 0xfedcba9876543210u);
  EXPECT_EQ(read.packs_per_step, 6);
  EXPECT_EQ(read.cursor, "1:2:abc");
  EXPECT_EQ(read.best.value, 1.75);
  EXPECT_EQ(read.facts, state_.facts);

  DraftParams other = init_draft(config_, {}, 2);
  Optimizer restored(other, OptimSection{});
  restored.restore(read_masters(run() / "latest"), read_moments(run() / "latest"), read.updates);
  EXPECT_EQ(restored.updates(), 1);
  for (const auto& [name, tensor] : params_.tensors) {
    EXPECT_TRUE(at::equal(tensor, other.at(name))) << name;
    EXPECT_TRUE(at::equal(optimizer_.moments().first.at(name), restored.moments().first.at(name)));
    EXPECT_TRUE(
        at::equal(optimizer_.moments().second.at(name), restored.moments().second.at(name)));
  }
}

TEST_F(CheckpointTest, HoldsADraftThatDecodes) {
  save(3);
  ModelConfig target;
  target.vocab = 200;
  target.hidden = 64;
  target.layers = 8;
  const LoadedDraft draft = load_draft(run() / "latest" / "draft", target);
  EXPECT_TRUE(draft.vocab.draft_to_target.equal(vocab_.draft_to_target));
  EXPECT_TRUE(draft.params.at("fc.weight").equal(params_.at("fc.weight").to(at::kBFloat16)));
}

TEST_F(CheckpointTest, AWriteThatIsCutOffLeavesThePreviousOneIntact) {
  save(10);
  const std::string before = masters();
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit fails, as on a full disk
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{20000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of([&] { save(20); });
  setrlimit(RLIMIT_FSIZE, &old);
  expect_only_step_10(message, before);
  save(20);  // room again
  EXPECT_EQ(find_latest(run())->filename(), "step-000020");
}

TEST_F(CheckpointTest, AFullDiskLeavesThePreviousOneIntact) {
  const SmallDisk disk(run());
  if (!disk.mounted()) GTEST_SKIP() << "a file system may not be mounted here (not root)";
  save(10);
  const std::string before = masters();
  const auto all_but_20kb = static_cast<size_t>(fs::space(run()).available - 20000);
  write_file_atomic(run() / "filler", std::string(all_but_20kb, 'x'));
  const std::string message = error_of([&] { save(20); });
  EXPECT_THAT(message, HasSubstr("No space left on device"));
  expect_only_step_10(message, before);
  fs::remove(run() / "filler");
  save(20);
  EXPECT_EQ(find_latest(run())->filename(), "step-000020");
}

TEST_F(CheckpointTest, PruningKeepsTheNewestAndTheBest) {
  for (const int64_t step : {5, 10, 15, 20, 25}) save(step);
  mark_best(run(), 10);
  fs::create_directories(run() / "step-000030.tmp");  // what a killed run leaves
  prune_checkpoints(run(), 2);
  EXPECT_FALSE(fs::exists(run() / "step-000005"));
  EXPECT_TRUE(fs::exists(run() / "step-000010"));
  EXPECT_FALSE(fs::exists(run() / "step-000015"));
  EXPECT_TRUE(fs::exists(run() / "step-000020"));
  EXPECT_TRUE(fs::exists(run() / "step-000025"));
  EXPECT_FALSE(fs::exists(run() / "step-000030.tmp"));
}

TEST_F(CheckpointTest, StepsAreOrderedAsNumbers) {
  for (const int64_t step : {999998, 999999, 1000000}) save(step);
  fs::remove(run() / "latest");
  EXPECT_EQ(find_latest(run())->filename(), "step-1000000");
  prune_checkpoints(run(), 2);
  EXPECT_FALSE(fs::exists(run() / "step-999998"));
  EXPECT_TRUE(fs::exists(run() / "step-999999"));
  EXPECT_TRUE(fs::exists(run() / "step-1000000"));
}

TEST_F(CheckpointTest, OneThatWasBeingReplacedComesBack) {
  save(5);
  save(10);
  // What a kill between two renames leaves (common/files.h).
  fs::rename(run() / "step-000010", run() / "step-000010.old");
  EXPECT_EQ(find_latest(run())->filename(), "step-000010");
  fs::rename(run() / "step-000010", run() / "step-000010.old");
  prune_checkpoints(run(), 2);
  EXPECT_EQ(read_state(run() / "step-000010").step, 10);
  EXPECT_TRUE(fs::exists(run() / "step-000005"));
}

TEST_F(CheckpointTest, FindsTheNewestWithoutTheLink) {
  EXPECT_FALSE(find_latest(run()).has_value());
  EXPECT_FALSE(find_latest(run() / "nowhere").has_value());
  save(5);
  save(10);
  fs::remove(run() / "latest");
  fs::create_directories(run() / "step-000099");  // not complete: no state.json
  EXPECT_EQ(find_latest(run())->filename(), "step-000010");
}

TEST_F(CheckpointTest, DamageIsNamed) {
  save(5);
  const fs::path state = run() / "step-000005" / "state.json";
  fs::resize_file(state, fs::file_size(state) / 2);
  EXPECT_THAT(error_of([&] { read_state(run() / "latest"); }), HasSubstr("state.json is damaged"));
  EXPECT_THAT(error_of([&] { read_state(run()); }),
              HasSubstr("is no checkpoint: it has no state.json"));
}

}  // namespace
}  // namespace aerie
