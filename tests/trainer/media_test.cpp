// Runs on images and on speech, text rows among them: hidden states made online and read from disk
// are the same, positions of all axes included, and the draft trains on them and is exported.
#include <gmock/gmock.h>

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

struct MediaCase {
  const char *model, *kind;        // a directory of tests/golden; the type of the parts
  std::vector<const char*> files;  // of tests/golden
  std::vector<int64_t> sections;   // of the draft's RoPE
  bool interleaved = false;        // they are
};
const std::vector<const char*> kFiles = {"images/palette.png", "images/turned.jpg",
                                         "images/grey.jpg", "images/alpha.png"};
const MediaCase kQwen25{"models/qwen2_5_vl", "image", kFiles, {2, 3, 3}, false},
    kQwen3{"models/qwen3_vl", "image", kFiles, {4, 2, 2}, true},
    // A draft counts tokens on one axis beside the target's four.
    kHunyuan{"models/hunyuan_vl", "image", kFiles, {}, false};
const MediaCase kSpeech{"models/qwen2_audio",
                        "audio",
                        {"audio/speech.flac", "audio/speech.ogg", "audio/speech.wav"},
                        {},
                        false};

/// Rows with no, one or two pieces of media and short answers.
std::string rows(const MediaCase& media, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    std::string parts;
    for (int k = 0; k < i % 3; ++k) {
      const char* file = media.files[static_cast<size_t>(i + k) % media.files.size()];
      parts += fmt::format(R"({{"type": "{}", "path": "{}"}}, )", media.kind,
                           (golden_dir() / file).string());
    }
    text += fmt::format(
        R"({{"id": "row{}", "messages": [{{"role": "user", "content": [{}{{"type": "text", "text": )"
        R"("Which?"}}]}}, {{"role": "assistant", "content": "Number {} it is."}}]}})",
        i, parts, i * 37 % 11);
    text += '\n';
  }
  return text;
}

class MediaRun : public ::testing::TestWithParam<MediaCase> {
 protected:
  void SetUp() override {
    log_quiet();
    directory_.write("train.jsonl", rows(GetParam(), 24));
    directory_.write("heldout.jsonl", rows(GetParam(), 3));
  }
  RunConfig run(const std::string& mode) {
    RunConfig config;
    config.target.path = golden_dir() / GetParam().model;
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

TEST_P(MediaRun, StoredBatchesOfAHundredPiecesEqualOnlineBatchesToTheBit) {
  directory_.write("train.jsonl", rows(GetParam(), 101));  // 0, 1, 2, 0, 1... pieces: 100
  const RunConfig config = run("offline");
  dump_command(config, {});
  const auto target = load_target(config.target.path, at::kCPU, at::kBFloat16);
  const DraftConfig draft =
      draft_config_for(target->config(), config.draft.vocab_size, config.draft.layer_ids);
  const TokenShards shards(PreparedData(prepare_options(config).output).train);
  RunSource online(run("online"), Split::kTrain, draft, *target, shards, 1);
  RunSource stored(config, Split::kTrain, draft, *target, shards, 1);
  int64_t batches = 0, of_several_axes = 0;
  while (const auto left = online.get().next()) {
    const auto right = stored.get().next();
    ASSERT_TRUE(right);
    EXPECT_TRUE(at::equal(left->tokens, right->tokens));
    EXPECT_TRUE(at::equal(left->positions, right->positions));
    EXPECT_TRUE(at::equal(left->captured, right->captured));
    EXPECT_TRUE(at::equal(left->last_hidden, right->last_hidden));
    ++batches;
    of_several_axes += left->positions.dim() == 2;
  }
  EXPECT_FALSE(stored.get().next());
  EXPECT_GT(batches, 12);
  EXPECT_EQ(of_several_axes > 12, !GetParam().sections.empty());
}

TEST_P(MediaRun, TrainsAndExportsADraftOfTheTargetsAxes) {
  const RunConfig config = run("online");
  int64_t measured = 0, with_media = 0;
  train_command(config, {},
                [&](const TargetModel&, const DraftConfig& draft, const DraftParams&,
                    const VocabMap&, const std::vector<MediaTokens>& prompts) {
                  ++measured;
                  EXPECT_EQ(draft.rope.sections, GetParam().sections);
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
  EXPECT_EQ(exported.rope.sections, GetParam().sections);
  EXPECT_EQ(exported.rope.interleaved, GetParam().interleaved);
}

/// draft.use_input_embeds: what the target read comes out of the store as it went in, features in
/// the rows of media, and the run that trains on it is another one.
TEST_P(MediaRun, StoredInputEmbeddingsEqualOnlineOnesToTheBit) {
  const auto with_embeds = [this](const char* mode) {
    RunConfig config = run(mode);
    config.draft.use_input_embeds = true;
    return config;
  };
  const RunConfig config = with_embeds("offline");
  dump_command(config, {});
  const auto target = load_target(config.target.path, at::kCPU, at::kBFloat16);
  DraftConfig draft =
      draft_config_for(target->config(), config.draft.vocab_size, config.draft.layer_ids);
  draft.use_input_embeds = true;
  const TokenShards shards(PreparedData(prepare_options(config).output).train);
  RunSource online(with_embeds("online"), Split::kTrain, draft, *target, shards, 1);
  RunSource stored(config, Split::kTrain, draft, *target, shards, 1);
  int64_t features = 0;
  while (const auto left = online.get().next()) {
    const auto right = stored.get().next();
    ASSERT_TRUE(right);
    ASSERT_TRUE(left->embeds.defined());
    EXPECT_TRUE(at::equal(left->embeds, right->embeds));
    const Tensor tokens = target->embed_weight().index_select(0, left->tokens);
    features += left->embeds.ne(tokens).any(1).sum().item<int64_t>();
    // No answer has features: the target wrote tokens.
    const Tensor answers = left->loss_mask.nonzero().squeeze(1);
    EXPECT_TRUE(at::equal(left->embeds.index_select(0, answers), tokens.index_select(0, answers)));
  }
  EXPECT_GT(features, 24) << "a few rows for each piece of media";
  draft.use_input_embeds = false;
  EXPECT_THAT(
      testing::error_of([&] { RunSource(config, Split::kTrain, draft, *target, shards, 1); }),
      ::testing::HasSubstr("draft.use_input_embeds: the store has stored"));
}

TEST_P(MediaRun, ADraftThatReadsFeaturesSaysSo) {
  RunConfig config = run("hybrid");
  config.draft.use_input_embeds = true;
  config.train.epochs = 2;  // the second reads what the first stored
  int64_t measured = 0;
  train_command(config, {},
                [&](const TargetModel&, const DraftConfig& draft, const DraftParams&,
                    const VocabMap&, const std::vector<MediaTokens>&) {
                  ++measured;
                  EXPECT_TRUE(draft.use_input_embeds);
                  return Acceptance{1.5, {}};
                });
  EXPECT_EQ(measured, 1);
  ExportFlags flags;
  flags.checkpoint = config.output.dir / "best";
  flags.output = directory_ / "draft";
  export_command(flags);
  EXPECT_TRUE(read_draft_config(flags.output).use_input_embeds);
  config.draft.serve_with = "vllm";
  config.output.dir = directory_ / "served";
  EXPECT_THAT(testing::error_of([&] { train_command(config, {}, {}); }),
              ::testing::HasSubstr("serving engines feed it the placeholder's embedding"));
}

INSTANTIATE_TEST_SUITE_P(Images, MediaRun, ::testing::Values(kQwen25, kQwen3, kHunyuan));
INSTANTIATE_TEST_SUITE_P(Speech, MediaRun, ::testing::Values(kSpeech));

}  // namespace
}  // namespace aerie
