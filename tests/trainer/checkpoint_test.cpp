#include "trainer/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "common/error.h"
#include "common/files.h"
#include "draft_models/dialects.h"
#include "tiny_run.h"

namespace aerie {
namespace {

using testing::TemporaryDirectory;

DraftConfig small_config() {
  DraftConfig config;
  config.hidden = config.target_hidden = 64;
  config.intermediate = 96;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.target_layers = 8;
  config.vocab = 200;
  config.draft_vocab = 100;
  config.max_position = 128;
  config.rms_norm_eps = 1e-5;
  config.capture_layers = {1, 3, 5};
  return config;
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    for (auto& [name, tensor] : params_.tensors) tensor.grad().normal_();
    optimizer_.step(0.01, 1.0);
  }
  void save(int64_t step) {
    state_.step = step;
    state_.updates = optimizer_.updates();
    save_checkpoint(run(), {state_, config_, params_, vocab_, optimizer_, "train: {}\n"});
  }
  const fs::path& run() const { return directory_.path(); }

  TemporaryDirectory directory_;
  DraftConfig config_ = small_config();
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
  EXPECT_EQ(read.cursor, "1:2:abc");
  EXPECT_EQ(read.best.value, 1.75);
  EXPECT_EQ(read.facts, state_.facts);

  DraftParams other = init_draft(config_, {}, 2);
  Optimizer restored(other, OptimSection{});
  restore_optimizer(run() / "latest", read, restored);
  EXPECT_EQ(restored.updates(), 1);
  for (const auto& [name, tensor] : params_.tensors) {
    EXPECT_TRUE(at::equal(tensor, other.at(name))) << name;
    EXPECT_TRUE(at::equal(optimizer_.first_moments().at(name), restored.first_moments().at(name)));
    EXPECT_TRUE(
        at::equal(optimizer_.second_moments().at(name), restored.second_moments().at(name)));
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

TEST_F(CheckpointTest, AFullDiskLeavesThePreviousOneIntact) {
  save(10);
  const std::string before = read_file(run() / "step-000010" / "masters.safetensors");
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit fails, as on a full disk
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{20000, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    save(20);
  } catch (const Error& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_NE(message.find("step-000020 was not written"), std::string::npos) << message;
  EXPECT_NE(message.find("earlier ones are untouched"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(run() / "step-000020"));
  EXPECT_FALSE(fs::exists(run() / "step-000020.tmp"));
  EXPECT_EQ(find_latest(run())->filename(), "step-000010");
  EXPECT_EQ(read_file(run() / "latest" / "masters.safetensors"), before);
  save(20);  // room again
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
  try {
    read_state(run() / "latest");
    FAIL() << "half a file was read";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("state.json is damaged"), std::string::npos);
  }
  EXPECT_THROW(read_state(run()), Error);
}

TEST(RunFactsTest, TheDiffNamesEveryField) {
  const RunFacts was{{"a", "1"}, {"b", "2"}, {"c", "3"}}, is{{"a", "1"}, {"b", "4"}, {"d", "5"}};
  check_same_run("step-000001", was, was);
  try {
    check_same_run("step-000001", was, is);
    FAIL() << "a difference was overlooked";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("b: was 2, is 4"), std::string::npos) << message;
    EXPECT_NE(message.find("c: was 3, is (absent)"), std::string::npos) << message;
    EXPECT_NE(message.find("d: was (absent), is 5"), std::string::npos) << message;
    EXPECT_EQ(message.find("a: was"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace aerie
