// train.init_from: a run goes on from another draft's weights, with its vocabulary, and refuses one
// that does not fit.
#include <gmock/gmock.h>

#include "common/error.h"
#include "common/log.h"
#include "data/vocab_map.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/checkpoint.h"
#include "trainer/commands.h"
#include "trainer/draft_check.h"
#include "trainer/run_data.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::Scratch;
using testing::tiny_run;

class WarmStart : public ::testing::Test {
 protected:
  WarmStart() {
    log_quiet();
    RunConfig first = run("first");
    train_command(first, {}, {});
    std::ofstream other(directory_.path() / "other.jsonl");  // other letters, so other counts
    for (int i = 0; i < 30; ++i) {
      other << R"({"id": ")" << i << R"(", "conversations": [{"role": "user", "content": "xyz"}, )"
            << R"({"role": "assistant", "content": "abcd xyz abcd zyx abcd"}]})"
            << "\n";
    }
  }
  RunConfig run(const std::string& name) const {
    RunConfig config = tiny_run(directory_.path(), name);
    config.train.max_steps = 2;
    return config;
  }
  /// A run over other data that starts from `place`, at a rate that moves nothing.
  RunConfig frozen(const std::string& name, const fs::path& place) const {
    RunConfig config = run(name);
    config.data.cache = directory_.path() / (name + "-data");
    config.data.train = {directory_.path() / "other.jsonl"};
    config.train.init_from = place;
    config.optim.lr = 1e-30;
    return config;
  }
  std::string refusal(const RunConfig& config) const {
    try {
      train_command(config, {}, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  fs::path at(const char* name) const { return directory_.path() / name; }

  Scratch directory_;
};

TEST_F(WarmStart, FromACheckpointWithItsVocabulary) {
  train_command(frozen("second", at("first/latest")), {}, {});
  const LoadedDraft first = read_any_draft(at("first/latest/draft"), std::nullopt);
  const LoadedDraft second = read_any_draft(at("second/latest/draft"), std::nullopt);
  EXPECT_TRUE(second.vocab.draft_to_target.equal(first.vocab.draft_to_target));
  const DraftParams was = read_masters(at("first/latest")), is = read_masters(at("second/latest"));
  for (const auto& [name, tensor] : was.tensors) EXPECT_TRUE(is.at(name).equal(tensor)) << name;
  // The data's own counts would have given another one, and `prepare` keeps the draft's too.
  RunConfig counted = frozen("third", {});
  EXPECT_NE(prepare(prepare_options(counted)).vocabulary.hash, first.config.vocabulary_hash);
  EXPECT_EQ(load_draft_vocabulary(at("second-data/vocabulary.safetensors")).hash,
            first.config.vocabulary_hash);
}

TEST_F(WarmStart, FromAnExportedDraft) {
  for (const char* format : {"sglang", "speculators"}) {
    ExportFlags flags;
    flags.checkpoint = at("first/latest");
    flags.output = directory_.path() / format;
    flags.format = format;
    export_command(flags);
    const std::string name = fmt::format("from-{}", format);
    train_command(frozen(name, flags.output), {}, {});
    const LoadedDraft was = read_any_draft(flags.output, std::nullopt);
    const LoadedDraft is = read_any_draft(directory_.path() / name / "latest/draft", std::nullopt);
    EXPECT_EQ(is.config.capture_layers, was.config.capture_layers);
    for (const auto& [key, tensor] : was.params.tensors) {
      EXPECT_TRUE(is.params.at(key).equal(tensor)) << format << " " << key;
    }
  }
}

TEST_F(WarmStart, ResumesWithoutTheDraftItStartedFrom) {
  RunConfig config = frozen("second", at("copy"));
  fs::copy(at("first/latest/draft"), at("copy"), fs::copy_options::recursive);
  train_command(config, {}, {});
  fs::remove_all(at("copy"));
  TrainFlags flags;
  flags.resume = (at("second/latest")).string();
  EXPECT_NO_THROW(train_command(config, flags, {}));
  // Another start is another run.
  config.train.init_from = "";
  config.data.cache = "";
  EXPECT_THAT(refusal(config), HasSubstr("train.init_from: was "));
}

TEST_F(WarmStart, ADraftLearnsToLookBackLessFar) {
  RunConfig config = frozen("windowed", at("first/latest"));
  config.draft.window = 9;
  train_command(config, {}, {});
  EXPECT_EQ(read_any_draft(at("windowed/latest/draft"), std::nullopt).config.window, 9);
  // Which a later run from it keeps.
  train_command(frozen("later", at("windowed/latest")), {}, {});
  EXPECT_EQ(read_any_draft(at("later/latest/draft"), std::nullopt).config.window, 9);
}

TEST_F(WarmStart, WhatDoesNotFitTheRunIsRefused) {
  RunConfig config = frozen("second", at("first/latest"));
  config.draft.vocab_size = 32;
  EXPECT_THAT(refusal(config), AllOf(HasSubstr("draft.vocab_size is 32"), HasSubstr("64 tokens")));
  config = frozen("second", at("first/latest"));
  config.draft.layer_ids = {1, 2, 3};
  EXPECT_THAT(refusal(config), AllOf(HasSubstr("[1,3,4]"), HasSubstr("[1,2,3]")));
  EXPECT_THAT(refusal(frozen("second", at("nowhere"))), HasSubstr("nowhere"));
}

TEST_F(WarmStart, AnEmbeddingOfItsOwnIsRefused) {
  const fs::path draft = at("first/latest/draft/model.safetensors");
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  {
    const SafetensorsFile file(draft);
    for (const auto& name : file.names()) tensors.emplace_back(name, file.tensor(name).clone());
  }
  const auto vocab = static_cast<int64_t>(testing::tiny_vocabulary().size());
  tensors.emplace_back("embed_tokens.weight", at::rand({vocab, testing::kTinyHidden}));
  write_safetensors(draft, tensors);
  EXPECT_THAT(refusal(frozen("second", at("first/latest"))),
              HasSubstr("\"embed_tokens.weight\" differs from the target's"));
}

}  // namespace
}  // namespace aerie
