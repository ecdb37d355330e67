// Every recipe of configs/ loads.
#include <gmock/gmock.h>

#include "common/files.h"
#include "configs/run_config.h"
#include "tests/testing.h"

namespace aerie {
namespace {

std::vector<fs::path> recipes() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(testing::source_dir() / "configs")) {
    if (entry.path().extension() == ".yaml") found.push_back(entry.path());
  }
  return found;
}

TEST(Recipes, AreAllThere) {
  std::vector<std::string> names;
  for (const fs::path& path : recipes()) names.push_back(path.stem());
  EXPECT_THAT(names, ::testing::IsSupersetOf({"quickstart", "llama-3.1-8b", "qwen3-8b"}));
}

TEST(Recipes, LoadAndSurviveARoundTrip) {
  const testing::Scratch scratch;
  for (const fs::path& path : recipes()) {
    SCOPED_TRACE(path.string());
    const RunConfig config = load_run_config(path, {});
    EXPECT_EQ(config.output.dir, fs::path("runs") / path.stem());
    EXPECT_FALSE(config.data.heldout.empty());

    const fs::path copy = scratch / "resolved.yaml";
    write_file_atomic(copy, to_yaml(config));
    EXPECT_EQ(to_yaml(load_run_config(copy, {})), to_yaml(config));
  }
}

TEST(Recipes, QuickstartNeverBenchesWhatItTrainsOn) {
  const auto questions = [](const char* name) {
    const std::string text = read_file(testing::source_dir() / "configs/quickstart" / name);
    std::vector<std::string> found;
    for (size_t at = text.find("\"content\": "); at != std::string::npos;
         at = text.find("\"content\": ", at + 1)) {
      found.push_back(text.substr(at, text.find('\n', at) - at));
    }
    return found;
  };
  const auto train = questions("train_prompts.jsonl");
  EXPECT_EQ(train.size(), 2000u);
  for (const char* name : {"bench_prompts.jsonl", "heldout_prompts.jsonl"}) {
    for (const std::string& question : questions(name)) {
      EXPECT_THAT(train, ::testing::Not(::testing::Contains(question))) << name;
    }
  }
}

}  // namespace
}  // namespace aerie
