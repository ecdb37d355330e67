// A run on speech: hidden states made online and read from disk are the same, and a draft trains on
// them and is exported.
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

/// Rows with and without speech and short answers.
std::string speech_rows(int count) {
  const char* const speech[] = {"speech.flac", "speech.ogg", "speech.wav"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    const std::string part = i % 4 == 3
                                 ? ""
                                 : fmt::format(R"({{"type": "audio", "audio": "{}"}}, )",
                                               (golden_dir() / "audio" / speech[i % 3]).string());
    text += fmt::format(
        R"({{"id": "row{}", "messages": [{{"role": "user", "content": [{}{{"type": "text", "text": )"
        R"("Which?"}}]}}, {{"role": "assistant", "content": "Number {} it is."}}]}})",
        i, part, i * 37 % 11);
    text += "\n";
  }
  return text;
}

class AudioRun : public ::testing::Test {
 protected:
  void SetUp() override {
    log_quiet();
    directory_.write("train.jsonl", speech_rows(16));
    directory_.write("heldout.jsonl", speech_rows(3));
  }
  RunConfig run(const std::string& mode) {
    RunConfig config;
    config.target.path = golden_dir() / "models/qwen2_audio";
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

TEST_F(AudioRun, StoredBatchesEqualOnlineBatchesToTheBit) {
  const RunConfig config = run("offline");
  dump_command(config, {});
  const auto target = load_target(config.target.path, at::kCPU, at::kBFloat16);
  const DraftConfig draft =
      draft_config_for(target->config(), config.draft.vocab_size, config.draft.layer_ids);
  const TokenShards shards(PreparedData(prepare_options(config).output).train);
  RunSource online(run("online"), Split::kTrain, draft, *target, shards, 1);
  RunSource stored(config, Split::kTrain, draft, *target, shards, 1);
  int64_t batches = 0;
  while (const auto left = online.get().next()) {
    const auto right = stored.get().next();
    ASSERT_TRUE(right);
    EXPECT_TRUE(at::equal(left->tokens, right->tokens));
    EXPECT_TRUE(at::equal(left->captured, right->captured));
    EXPECT_TRUE(at::equal(left->last_hidden, right->last_hidden));
    ++batches;
  }
  EXPECT_FALSE(stored.get().next());
  EXPECT_GT(batches, 2);
}

TEST_F(AudioRun, TrainsAndExports) {
  const RunConfig config = run("online");
  int64_t with_media = 0;
  train_command(config, {},
                [&](const TargetModel&, const DraftConfig&, const DraftParams&, const VocabMap&,
                    const std::vector<MediaTokens>& prompts) {
                  for (const MediaTokens& prompt : prompts) with_media += !prompt.media.empty();
                  return Acceptance{1.5, {}};
                });
  EXPECT_GT(with_media, 0);
  ExportFlags flags;
  flags.checkpoint = config.output.dir / "best";
  flags.output = directory_ / "draft";
  export_command(flags);
  EXPECT_EQ(read_draft_config(flags.output).vocab, read_model_config(config.target.path).vocab);
}

}  // namespace
}  // namespace aerie
