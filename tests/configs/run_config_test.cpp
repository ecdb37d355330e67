#include "configs/run_config.h"

#include <gmock/gmock.h>

#include <fstream>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RunConfigTest : public ::testing::Test {
 protected:
  // Messages name the file as it was given, so the tests read it from the working directory.
  void SetUp() override {
    before_ = fs::current_path();
    fs::current_path(scratch_.path());
  }
  void TearDown() override { fs::current_path(before_); }

  static RunConfig load(const std::string& text, const std::vector<std::string>& overrides = {}) {
    std::ofstream("run.yaml") << text;
    return load_run_config("run.yaml", overrides);
  }
  static std::string error_of(const std::string& text,
                              const std::vector<std::string>& overrides = {}) {
    return testing::error_of([&] { load(text, overrides); });
  }

  static constexpr const char* kMinimal =
      "target:\n  path: models/m\ndata:\n  train: [a.jsonl]\noutput:\n  dir: runs/x\n";

 private:
  const testing::Scratch scratch_;
  fs::path before_;
};

TEST_F(RunConfigTest, DefaultsFillWhatTheFileLeavesOut) {
  const RunConfig config = load(kMinimal);
  EXPECT_EQ(config.target.path, "models/m");
  EXPECT_THAT(config.data.train, ElementsAre("a.jsonl"));
  EXPECT_EQ(config.data.cache, "runs/x/data");
  EXPECT_EQ(config.train.unroll, RunConfig{}.train.unroll);
}

TEST_F(RunConfigTest, EveryTypeParses) {
  const RunConfig config = load(std::string(kMinimal) +
                                "draft: {vocab_size: 32000, layer_ids: [1, 14, 26]}\n"
                                "optim: {lr: 2e-4, schedule: linear}\n"
                                "train: {seed: 18446744073709551615}\n");
  EXPECT_EQ(config.draft.vocab_size, 32000);
  EXPECT_THAT(config.draft.layer_ids, ElementsAre(1, 14, 26));
  EXPECT_DOUBLE_EQ(config.optim.lr, 2e-4);
  EXPECT_EQ(config.optim.schedule, "linear");
  EXPECT_EQ(config.train.seed, UINT64_MAX);
}

TEST_F(RunConfigTest, OverridesWinAndListsTakeOneElementToo) {
  const RunConfig config = load(
      kMinimal, {"optim.lr=2e-4", "data.train=b c.jsonl", "draft.layer_ids=[2, 5]",
                 "data.last_turn_only=true", "data.cache=shards", "train.step_weights=[1, 0.5]"});
  EXPECT_THAT(config.train.step_weights, ElementsAre(1, 0.5));
  EXPECT_DOUBLE_EQ(config.optim.lr, 2e-4);
  EXPECT_THAT(config.data.train, ElementsAre("b c.jsonl"));
  EXPECT_THAT(config.draft.layer_ids, ElementsAre(2, 5));
  EXPECT_TRUE(config.data.last_turn_only);
  EXPECT_EQ(config.data.cache, "shards");
}

TEST_F(RunConfigTest, ResolvedFileLoadsToTheSame) {
  const RunConfig config =
      load(kMinimal, {"optim.lr=0.00031", "data.train=[a.jsonl, \"b: \\\"c\\\".jsonl\"]",
                      "train.seed=7", "data.heldout=h.jsonl", "draft.layer_ids=[1,2,3]"});
  const std::string text = to_yaml(config);
  EXPECT_EQ(to_yaml(load(text)), text);
  EXPECT_THAT(load(text).data.train, ElementsAre("a.jsonl", "b: \"c\".jsonl"));
  EXPECT_EQ(load(text).optim.lr, 0.00031);
}

TEST_F(RunConfigTest, UnknownKeysNameTheLineAndTheNearestKey) {
  EXPECT_EQ(error_of("target:\n  path: m\ntrain:\n  unrol: 3\n"),
            "run.yaml:4: unknown key train.unrol; did you mean train.unroll?");
  EXPECT_EQ(error_of("train:\n  lr: 1e-3\n"),
            "run.yaml:2: unknown key train.lr; did you mean optim.lr?");
  EXPECT_EQ(error_of("trian:\n  lr: 1e-3\n"),
            "run.yaml:1: unknown section trian; did you mean train?");
  EXPECT_EQ(error_of("output:\n  xyzzyplugh: 1\n"),
            "run.yaml:2: unknown key output.xyzzyplugh; keys of output: dir");
  EXPECT_THAT(error_of("\nwandb:\n  project: x\n"),
              HasSubstr("run.yaml:2: unknown section wandb; sections: target, draft, data"));
}

TEST_F(RunConfigTest, WrongValuesNameTheLineAndWhatIsAllowed) {
  EXPECT_EQ(error_of("train:\n  unroll: seven\n"),
            "run.yaml:2: train.unroll is \"seven\"; allowed: an integer from 1 to 16");
  EXPECT_EQ(error_of("train:\n  unroll: 0\n"),
            "run.yaml:2: train.unroll is \"0\"; allowed: an integer from 1 to 16");
  EXPECT_EQ(error_of("train:\n  epochs: 1.5\n"),
            "run.yaml:2: train.epochs is \"1.5\"; allowed: an integer, at least 1");
  EXPECT_EQ(error_of("optim:\n  lr: 0\n"),
            "run.yaml:2: optim.lr is \"0\"; allowed: a number above 0");
  EXPECT_EQ(error_of("optim:\n  lr: .nan\n"),
            "run.yaml:2: optim.lr is \".nan\"; allowed: a number above 0");
  EXPECT_EQ(error_of("optim:\n  schedule: step\n"),
            "run.yaml:2: optim.schedule is \"step\"; allowed: constant | linear | cosine | wsd");
  EXPECT_EQ(error_of("data:\n  last_turn_only: yes\n"),
            "run.yaml:2: data.last_turn_only is \"yes\"; allowed: true or false");
  EXPECT_EQ(error_of("draft:\n  layer_ids: [1, -2]\n"),
            "run.yaml:2: draft.layer_ids is \"-2\"; allowed: a list, each an integer, at least 0");
  EXPECT_EQ(error_of("target:\n  path: [a, b]\n"),
            "run.yaml:2: target.path is a list; allowed: a path");
  EXPECT_EQ(error_of("target:\n  path:\n"), "run.yaml:2: target.path is empty; allowed: a path");
}

TEST_F(RunConfigTest, MalformedYamlNamesLineAndColumn) {
  EXPECT_THAT(error_of("train:\n  unroll: [1, 2\noptim:\n"),
              ::testing::MatchesRegex("run\\.yaml:3:[0-9]+: not valid YAML: .*"));
  EXPECT_THAT(error_of("target:\n\tpath: m\n"),
              HasSubstr("run.yaml:2:6: not valid YAML: illegal map value"));
  EXPECT_EQ(error_of("- a\n- b\n"),
            "run.yaml:1: must hold sections (\"train:\" and keys below it)");
  EXPECT_EQ(error_of("train: 5\n"), "run.yaml:1: section train must hold \"key: value\" lines");
}

TEST_F(RunConfigTest, RepeatedKeysAreRefused) {
  EXPECT_EQ(error_of("train:\n  unroll: 3\n  unroll: 4\n"),
            "run.yaml:3: train.unroll stands twice; remove one");
  EXPECT_EQ(error_of("train:\n  unroll: 3\ntrain:\n  epochs: 4\n"),
            "run.yaml:3: section train stands twice; join the two");
}

TEST_F(RunConfigTest, OverridesAreCheckedLikeTheFile) {
  EXPECT_EQ(error_of(kMinimal, {"train.unroll=99"}),
            "--set train.unroll=99: train.unroll is \"99\"; allowed: an integer from 1 to 16");
  EXPECT_EQ(error_of(kMinimal, {"train.unrol=3"}),
            "--set train.unrol=3: unknown key train.unrol; did you mean train.unroll?");
  EXPECT_EQ(error_of(kMinimal, {"train.unroll"}), "--set train.unroll: write section.key=value");
}

TEST_F(RunConfigTest, MissingFileAndMissingKeys) {
  EXPECT_EQ(error_of("target:\n  path: m\n"),
            "run.yaml: data.train is missing (conversations to train on (JSON lines)); add it, or "
            "pass --set data.train=...");
  EXPECT_EQ(error_of(""),
            "run.yaml: target.path is missing (Hugging Face directory of the frozen target "
            "model); add it, or pass --set target.path=...");
  EXPECT_THAT([] { load_run_config("absent.yaml", {}); },
              ::testing::ThrowsMessage<Error>(HasSubstr("absent.yaml does not exist")));
  EXPECT_EQ(read_run_config({}, {"decode.draft_tokens=3"}).decode.draft_tokens, 3);
}

TEST_F(RunConfigTest, DescriptionListsEveryKeyOfTheResolvedFile) {
  const std::string description = describe_run_config();
  const std::string resolved = to_yaml(RunConfig{});
  size_t keys = 0;
  for (size_t at = resolved.find("\n  "); at != std::string::npos;
       at = resolved.find("\n  ", at + 1)) {
    const std::string name = resolved.substr(at + 3, resolved.find(':', at) - at - 3);
    EXPECT_THAT(description, HasSubstr("  " + name + " "));
    ++keys;
  }
  EXPECT_GT(keys, 25u);
  EXPECT_THAT(description, HasSubstr("an integer from 1 to 16, in steps; default 7"));
}

}  // namespace
}  // namespace aerie
