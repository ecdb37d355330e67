// A run on images: hidden states made online and read from disk are the same, positions of all
// axes included, and the draft trains on them.
#include <gtest/gtest.h>

#include "common/log.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/commands.h"
#include "trainer/online_source.h"
#include "trainer/run_data.h"
#include "trainer/run_sources.h"

namespace aerie {
namespace {

using testing::golden_dir;
using testing::Scratch;

/// Rows with no, one or two images and short answers.
std::string rows(int count) {
  const char* const images[] = {"palette.png", "turned.jpg", "grey.jpg", "alpha.png"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    std::string parts;
    for (int k = 0; k < i % 3; ++k) {
      parts += fmt::format(R"({{"type": "image", "image": "{}"}}, )",
                           (golden_dir() / "images" / images[(i + k) % 4]).string());
    }
    text += fmt::format(
        R"({{"id": "row{}", "messages": [{{"role": "user", "content": [{}{{"type": "text", "text": )"
        R"("Which?"}}]}}, {{"role": "assistant", "content": "Number {} it is."}}]}})",
        i, parts, i * 37 % 11);
    text += "\n";
  }
  return text;
}

class VisionRun : public ::testing::Test {
 protected:
  void SetUp() override {
    log_quiet();
    directory_.write("train.jsonl", rows(24));
    directory_.write("heldout.jsonl", rows(3));
  }
  RunConfig run(const std::string& mode) {
    RunConfig config;
    config.target.path = golden_dir() / "models/qwen2_5_vl";
    config.draft.vocab_size = 64;
    config.draft.layer_ids = {0, 1, 2};
    config.data.train = {directory_ / "train.jsonl"};
    config.data.heldout = directory_ / "heldout.jsonl";
    config.data.cache = directory_ / "data";
    config.train.unroll = 3;
    config.train.pack_tokens = 256;
    config.hidden_states.mode = mode;
    config.hidden_states.store = directory_ / "store";
    config.output.dir = directory_ / mode;
    return config;
  }
  Scratch directory_;
};

TEST_F(VisionRun, StoredBatchesEqualOnlineBatchesToTheBit) {
  const RunConfig config = run("offline");
  dump_command(config, {});
  const auto target = load_target(config.target.path, at::kCPU, at::kBFloat16);
  const DraftConfig draft =
      draft_config_for(target->config(), config.draft.vocab_size, config.draft.layer_ids);
  const TokenShards shards(PreparedData(prepare_options(config).output).train);
  RunSource online(run("online"), Split::kTrain, draft, *target, shards, 1);
  RunSource stored(config, Split::kTrain, draft, *target, shards, 1);
  int64_t with_images = 0;
  while (const auto left = online.get().next()) {
    const auto right = stored.get().next();
    ASSERT_TRUE(right);
    EXPECT_TRUE(at::equal(left->tokens, right->tokens));
    EXPECT_TRUE(at::equal(left->positions, right->positions));
    EXPECT_TRUE(at::equal(left->captured, right->captured));
    EXPECT_TRUE(at::equal(left->last_hidden, right->last_hidden));
    with_images += left->positions.dim() == 2;
  }
  EXPECT_FALSE(stored.get().next());
  EXPECT_GT(with_images, 3);
}

TEST_F(VisionRun, TrainsAndExportsADraftOfSeveralAxes) {
  const RunConfig config = run("online");
  int64_t measured = 0, with_media = 0;
  train_command(config, {},
                [&](const TargetModel&, const DraftConfig& draft, const DraftParams&,
                    const VocabMap&, const std::vector<MediaTokens>& prompts) {
                  ++measured;
                  EXPECT_EQ(draft.rope.sections, (std::vector<int64_t>{2, 3, 3}));
                  for (const MediaTokens& prompt : prompts) with_media += !prompt.media.empty();
                  return Acceptance{1.5, {}};
                });
  EXPECT_EQ(measured, 1);
  EXPECT_EQ(with_media, 2);
  ExportFlags flags;
  flags.checkpoint = config.output.dir / "best";
  flags.output = directory_ / "draft";
  export_command(flags);
  const DraftConfig exported = read_draft_config(flags.output);
  EXPECT_EQ(exported.rope.sections, (std::vector<int64_t>{2, 3, 3}));
  EXPECT_FALSE(exported.rope.interleaved);
}

}  // namespace
}  // namespace aerie
