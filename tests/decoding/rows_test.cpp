// Prompt files, and the log of finished rows that survives its writer.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>

#include "common/error.h"
#include "common/files.h"
#include "decoding/prompts.h"
#include "decoding/row_log.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class Rows : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& text) const {
    return directory_.write(name, text);
  }
  testing::Scratch directory_;
};

std::string content_of(const PromptRow& row) {
  return prompt_messages(row.conversation).back()["content"];
}

TEST_F(Rows, EveryFormOfAPromptIsUnderstood) {
  const fs::path file = write(
      "prompts.jsonl",
      R"({"id":"a","conversations":[{"from":"human","value":"one"},{"from":"gpt","value":"x"}]}
{"id":"b","messages":[{"role":"system","content":"s"},{"role":"user","content":"two"}]}
{"question_id":7,"turns":["three","later"]}
{"id":"d","prompt":"four","response":"x"}
{"id":"e","input_ids":[5,6,7,8],"loss_mask":[0,0,1,1]}
)");
  const std::vector<PromptRow> rows = read_prompts(file);
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(content_of(rows[0]), "one");
  EXPECT_EQ(rows[1].conversation.messages[0]["role"], "system");
  EXPECT_EQ(content_of(rows[1]), "two");
  EXPECT_EQ(rows[2].id, "7");
  EXPECT_EQ(content_of(rows[2]), "three");
  EXPECT_EQ(content_of(rows[3]), "four");
  EXPECT_THAT(rows[4].conversation.input_ids, ElementsAre(5, 6, 7, 8));
  EXPECT_EQ(read_prompts(file, 2).size(), 2u);
}

TEST_F(Rows, IdsAreMadeFromContentAndKeptApart) {
  const fs::path file = write("prompts.jsonl",
                              R"({"prompt":"a"}
{"prompt":"b"}
{"prompt":"a"}
{"id":"x","prompt":"c"}
{"id":"x","prompt":"d"}
)");
  const std::vector<PromptRow> rows = read_prompts(file);
  EXPECT_EQ(rows[0].id.rfind("row-", 0), 0u);
  EXPECT_NE(rows[0].id, rows[1].id);
  EXPECT_EQ(rows[2].id, rows[0].id + "#2");
  EXPECT_EQ(rows[3].id, "x");
  EXPECT_EQ(rows[4].id, "x#2");
}

TEST_F(Rows, MistakesAreNamedWithFileAndLine) {
  const auto reading = [&](const std::string& text) {
    return [this, text] { read_prompts(write("bad.jsonl", text)); };
  };
  EXPECT_THAT(reading("{\"prompt\":\"a\"}\n{oops\n"),
              ThrowsMessage<Error>(HasSubstr("bad.jsonl:2: not JSON")));
  EXPECT_THAT(reading("{\"id\":\"a\"}\n"),
              ThrowsMessage<Error>(HasSubstr("bad.jsonl:1: unknown form")));
  EXPECT_THAT(reading("{\"messages\":[{\"role\":\"robot\",\"content\":\"a\"}]}\n"),
              ThrowsMessage<Error>(HasSubstr("unknown role: \"robot\"")));
  EXPECT_THAT(reading(""), ThrowsMessage<Error>(HasSubstr("bad.jsonl has no rows")));
  EXPECT_THAT([&] { read_prompts(directory_ / "missing.jsonl"); },
              ThrowsMessage<Error>(HasSubstr("missing.jsonl does not exist")));
}

TEST_F(Rows, ALogGoesOnWhereItsWriterDied) {
  const fs::path path = directory_ / "sub/answers.jsonl";
  {
    RowLog log(path, RowLog::kResume);
    log.append({{"id", "a"}, {"text", "1"}});
    log.append({{"id", "b"}, {"text", "2"}});
  }
  std::ofstream(path, std::ios::app) << R"({"id":"c","te)";  // killed while writing
  {
    RowLog log(path, RowLog::kResume);
    EXPECT_TRUE(log.contains("a") && log.contains("b"));
    EXPECT_FALSE(log.contains("c"));
    log.append({{"id", "c"}, {"text", "3"}});
  }
  EXPECT_EQ(read_file(path),
            "{\"id\":\"a\",\"text\":\"1\"}\n{\"id\":\"b\",\"text\":\"2\"}\n"
            "{\"id\":\"c\",\"text\":\"3\"}\n");
}

TEST_F(Rows, AForeignFileIsNotAppendedTo) {
  const fs::path path = write("notes.txt", "my notes\n");
  EXPECT_THAT([&] { RowLog(path, RowLog::kResume); },
              ThrowsMessage<Error>(HasSubstr("notes.txt:1: this is not a row")));
  EXPECT_EQ(read_file(path), "my notes\n");
}

TEST_F(Rows, ANewListOfFailuresReplacesTheOldOne) {
  const fs::path path = write("failed.jsonl", "old\n");
  RowLog log(path, RowLog::kReplace);
  EXPECT_FALSE(fs::exists(path));
  log.append({{"id", "a"}});
  EXPECT_EQ(read_file(path), "{\"id\":\"a\"}\n");
}

TEST_F(Rows, AFullDiskIsSaidAndWhatWasWrittenCounts) {
  const fs::path path = directory_ / "answers.jsonl";
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 40;
  {
    RowLog log(path, RowLog::kResume);
    log.append({{"id", "a"}});
    setrlimit(RLIMIT_FSIZE, &small);
    EXPECT_THAT(
        [&] {
          log.append({{"id", "b"}, {"text", std::string(100, 'x')}});
        },
        ThrowsMessage<Error>(AllOf(HasSubstr("cannot append"), HasSubstr("free some space"))));
    setrlimit(RLIMIT_FSIZE, &before);
  }
  signal(SIGXFSZ, handler);
  const RowLog again(path, RowLog::kResume);
  EXPECT_TRUE(again.contains("a"));
  EXPECT_FALSE(again.contains("b"));
}

}  // namespace
}  // namespace aerie
