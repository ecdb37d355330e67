// The commands as a user runs them, on SmolLM2 with a few short answers.
#include "decoding/commands.h"

#include <gmock/gmock.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/files.h"
#include "data/json.h"
#include "decoding/text_target.h"
#include "draft_models/dialects.h"
#include "tests/child.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

const fs::path kModel = testing::smollm2_dir();
const fs::path kPrompts = testing::test_dir() / "data/prompts_40.jsonl";

std::vector<Json> rows_of(const fs::path& file) {
  std::vector<Json> rows;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) rows.push_back(Json::parse(line));
  return rows;
}

std::vector<std::string> sorted_lines(const fs::path& file) {
  std::vector<std::string> lines;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

class Commands : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs::exists(kModel / "model.safetensors"))
        << kModel << " is not there: run scripts/fetch_smollm2.sh first";
  }

  fs::path first_prompts(int count, const std::string& extra = {}) const {
    std::ifstream all(kPrompts);
    std::ofstream some(directory_ / "prompts.jsonl");
    std::string line;
    for (int i = 0; i < count && std::getline(all, line); ++i) some << line << "\n";
    some << extra;
    return directory_ / "prompts.jsonl";
  }
  fs::path write_draft() const {
    const auto target = load_target(kModel, at::kCPU, at::kBFloat16);
    const auto draft = testing::copier_draft(*target, {1, 14, 26}, 1);
    save_draft(directory_ / "draft", draft.config, draft.params, draft.vocab);
    return directory_ / "draft";
  }
  testing::Scratch directory_;
};

TEST_F(Commands, GenerateAnswersOnePromptOnStdoutAsItAnswersARowOfAFile) {
  const std::string prompt = "What is 3 times 4?";
  std::ofstream(directory_ / "one.jsonl") << Json{{"prompt", prompt}}.dump() << "\n";
  GenerateFlags flags;
  flags.target = kModel;
  flags.max_new_tokens = 8;
  flags.input = directory_ / "one.jsonl";
  flags.output = directory_ / "out.jsonl";
  generate_command(flags);
  flags.input.clear();
  flags.output.clear();
  flags.prompt = prompt;
  ::testing::internal::CaptureStdout();
  generate_command(flags);
  const std::string printed = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(printed, rows_of(directory_ / "out.jsonl").at(0)["text"].get<std::string>() + "\n");
}

TEST_F(Commands, GenerateWritesOneRowAPromptInOrderAndTheSameForEveryDecoder) {
  GenerateFlags flags;
  flags.target = kModel;
  flags.input = first_prompts(5);
  flags.output = directory_ / "plain.jsonl";
  flags.max_new_tokens = 8;
  flags.concurrency = 3;
  generate_command(flags);
  flags.output = directory_ / "drafted.jsonl";
  flags.decoder = "eagle3";
  flags.draft = write_draft();
  flags.draft_tokens = 3;
  generate_command(flags);
  flags.output = directory_ / "tree.jsonl";
  flags.tree = true;
  flags.adaptive = true;
  generate_command(flags);
  flags.output = directory_ / "ngram.jsonl";
  flags.decoder = "ngram";
  EXPECT_THAT(testing::error_of([&] { generate_command(flags); }),
              HasSubstr("has no use for a draft"));
  flags.draft.clear();
  EXPECT_THAT(testing::error_of([&] { generate_command(flags); }), HasSubstr("give --draft DIR"));
  flags.tree = false;
  generate_command(flags);
  flags.output = directory_ / "diffusion.jsonl";
  flags.decoder = "diffusion";
  EXPECT_THAT(testing::error_of([&] { generate_command(flags); }), HasSubstr("neither --tree nor"));
  flags.tree = flags.adaptive = false;
  flags.mask_token = 5;
  flags.window = 4;
  generate_command(flags);
  const auto prompts = rows_of(kPrompts);
  const auto plain = rows_of(directory_ / "plain.jsonl");
  const auto drafted = rows_of(directory_ / "drafted.jsonl");
  const auto tree = rows_of(directory_ / "tree.jsonl");
  const auto ngram = rows_of(directory_ / "ngram.jsonl");
  const auto diffusion = rows_of(directory_ / "diffusion.jsonl");
  ASSERT_EQ(plain.size(), 5u);
  ASSERT_EQ(drafted.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(plain[i]["id"], prompts[i]["id"]);
    EXPECT_EQ(plain[i]["tokens"], drafted[i]["tokens"]);
    EXPECT_EQ(plain[i]["tokens"], tree[i]["tokens"]);
    EXPECT_EQ(plain[i]["tokens"], ngram[i]["tokens"]);
    EXPECT_EQ(plain[i]["tokens"], diffusion[i]["tokens"]);
    EXPECT_EQ(plain[i]["text"], drafted[i]["text"]);
    EXPECT_EQ(plain[i]["finish_reason"], "length");
    EXPECT_EQ(plain[i]["tokens"].size(), 8u);
    EXPECT_GT(plain[i]["prompt_tokens"].get<int>(), 10);
    EXPECT_TRUE(plain[i]["acceptance_length"].is_null());
    EXPECT_GE(drafted[i]["acceptance_length"].get<double>(), 1.0);
  }
}

TEST_F(Commands, GenerateSaysWhatIsWrongWithItsFlags) {
  GenerateFlags flags;
  flags.target = kModel;
  flags.input = first_prompts(1);
  flags.output = directory_ / "out.jsonl";
  flags.decoder = "medusa";
  EXPECT_THAT([&] { generate_command(flags); },
              ThrowsMessage<Error>(HasSubstr("--decoder is \"medusa\"")));
  flags.decoder = "eagle3";
  EXPECT_THAT([&] { generate_command(flags); }, ThrowsMessage<Error>(HasSubstr("--draft DIR")));
  flags.decoder = "diffusion";
  EXPECT_THAT([&] { generate_command(flags); }, ThrowsMessage<Error>(HasSubstr("has no masks")));
  flags.mask_token = 60000;
  EXPECT_THAT([&] { generate_command(flags); },
              ThrowsMessage<Error>(HasSubstr("--mask-token 60000 is outside the vocabulary")));
  flags.decoder = "autoregressive";
  flags.dtype = "float8";
  EXPECT_THAT([&] { generate_command(flags); },
              ThrowsMessage<Error>(HasSubstr("bfloat16 or float32")));
  flags.dtype = "bfloat16";
  flags.input = directory_ / "missing.jsonl";
  EXPECT_THAT([&] { generate_command(flags); }, ThrowsMessage<Error>(HasSubstr("missing.jsonl")));
}

TEST_F(Commands, BenchWritesItsNumbersAndAPageThatNeedsNothingElse) {
  BenchFlags flags;
  flags.target = kModel;
  flags.draft = write_draft();
  flags.input = first_prompts(3);
  flags.output = directory_ / "bench";
  flags.concurrency = {1, 2};
  flags.draft_tokens = {2};
  flags.max_new_tokens = 8;
  flags.repeats = 2;
  flags.tree = flags.ngram = flags.diffusion = true;
  flags.mask_token = 5;
  bench_command(flags);
  const Json report = Json::parse(read_file(flags.output / "bench.json"));
  ASSERT_EQ(report["runs"].size(), 10u);
  std::vector<std::string> decoders;
  for (const Json& run : report["runs"]) {
    decoders.push_back(run["decoder"]);
    for (const char* key :
         {"draft_tokens", "concurrency", "prompts", "tokens", "seconds", "tokens_per_second",
          "speedup", "acceptance_length", "acceptance_ci95", "accept_rate", "time_split"}) {
      EXPECT_TRUE(run.contains(key)) << key;
    }
    EXPECT_EQ(run["prompts"], 3);
    EXPECT_EQ(run["tokens"], 24);
    EXPECT_TRUE(run["identical_outputs"].get<bool>());
    double sum = 0;
    for (const auto& [part, share] : run["time_split"].items()) sum += share.get<double>();
    EXPECT_NEAR(sum, 1.0, 1e-9);
  }
  EXPECT_THAT(decoders,
              ElementsAre("autoregressive", "eagle3", "eagle3-tree", "ngram", "diffusion",
                          "autoregressive", "eagle3", "eagle3-tree", "ngram", "diffusion"));
  const std::string page = read_file(flags.output / "report.html");
  EXPECT_THAT(page, HasSubstr("<svg"));
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, Not(HasSubstr("src=")));
}

ResampleFlags resample_flags(const fs::path& input, const fs::path& output) {
  ResampleFlags flags;
  flags.target = kModel;
  flags.input = input;
  flags.output = output;
  flags.concurrency = 2;
  flags.max_new_tokens = 12;
  flags.temperature = {0.4, 1.2};
  return flags;
}

[[maybe_unused]] const bool kResamples = testing::register_child("resample", [] {
  const fs::path directory = std::getenv(testing::kRunVariable);
  resample_command(resample_flags(directory / "prompts.jsonl", directory / "killed.jsonl"));
});

void run_and_kill(const fs::path& directory) {
  const pid_t child = testing::start_child("resample", directory, "");
  const fs::path output = directory / "killed.jsonl";
  for (int i = 0; i < 6000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (fs::exists(output) && sorted_lines(output).size() >= 3) break;
  }
  ::kill(child, SIGKILL);
  testing::wait_for(child);
}

TEST_F(Commands, AKilledResampleGoesOnByIdAndGivesTheSameRows) {
  const std::string too_long =
      Json{{"id", "too-long"}, {"prompt", std::string(60000, 'x') + std::string(60000, '.')}}
          .dump();
  const std::string two_turns = R"({"id":"two","turns":["Name a colour.","Name another one."]})";
  const fs::path input = first_prompts(10, too_long + "\n" + two_turns + "\n");
  const fs::path whole = directory_ / "whole.jsonl", killed = directory_ / "killed.jsonl";
  resample_command(resample_flags(input, whole));
  run_and_kill(directory_.path());
  const std::string before = read_file(killed);
  const std::string kept = before.substr(0, before.rfind('\n') + 1);
  ASSERT_LT(sorted_lines(killed).size(), 11u) << "the child was done before it was killed";
  resample_command(resample_flags(input, killed));
  EXPECT_EQ(read_file(killed).substr(0, kept.size()), kept) << "finished rows were touched";
  EXPECT_EQ(sorted_lines(killed), sorted_lines(whole));
  EXPECT_EQ(sorted_lines(whole).size(), 11u);
  const auto failed = rows_of(directory_ / "killed.failed.jsonl");
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0]["id"], "too-long");
  EXPECT_THAT(failed[0]["error"].get<std::string>(), HasSubstr("context holds 8192"));
  for (const Json& row : rows_of(whole)) {
    EXPECT_EQ(row["conversations"].back()["role"], "assistant");
    EXPECT_FALSE(row["conversations"].back()["content"].get<std::string>().empty());
  }
}

}  // namespace
}  // namespace aerie
