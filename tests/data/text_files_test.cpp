#include "data/text_files.h"

#include <gmock/gmock.h>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Pair;
using testing::Scratch;

using Rows = std::vector<std::pair<std::string, int64_t>>;

Rows rows_of(const fs::path& file) {
  Rows rows;
  for_each_row(file, [&](std::string_view text, int64_t line) { rows.emplace_back(text, line); });
  return rows;
}

TEST(TextFiles, LinesKeepTheirNumbers) {
  Scratch dir;
  EXPECT_THAT(rows_of(dir.write("a.jsonl", "\xEF\xBB\xBF{\"a\":1}\n\n  \r\n{\"b\":2}")),
              ElementsAre(Pair("{\"a\":1}", 1), Pair("{\"b\":2}", 4)));
}

TEST(TextFiles, ArraysAreCutIntoElements) {
  Scratch dir;
  EXPECT_THAT(
      rows_of(dir.write("a.json", " [\n{\"a\": \"],\\\"[\"},\n[1, {\"b\": []}] , 3\n]\n")),
      ElementsAre(Pair("{\"a\": \"],\\\"[\"}", 2), Pair("[1, {\"b\": []}] ", 3), Pair("3\n", 3)));
}

TEST(TextFiles, ZstandardFramesFollowEachOther) {
  // Two frames, each one stored block (RFC 8878): magic, single segment, size, block header, bytes.
  const auto frame = [](const std::string& text) {
    const auto size = static_cast<char>(text.size());
    return std::string("\x28\xB5\x2F\xFD\x20", 5) + size +
           std::string({static_cast<char>(1 | (size << 3)), 0, 0}) + text;
  };
  Scratch dir;
  EXPECT_EQ(read_text(dir.write("a.jsonl.zst", frame("{\"a\":1}\n") + frame("{\"b\":2}\n"))),
            "{\"a\":1}\n{\"b\":2}\n");
  EXPECT_THAT(error_of([&] { read_text(dir.write("b.zst", "no zstd")); }),
              AllOf(HasSubstr("b.zst"), HasSubstr("decompress")));
  EXPECT_THAT(error_of([&] { read_text(dir.write("b.gz", "no gzip")); }), HasSubstr("b.gz"));
}

TEST(TextFiles, BadFilesAreNamed) {
  Scratch dir;
  EXPECT_THAT(error_of([&] { rows_of(dir / "missing.jsonl"); }),
              AllOf(HasSubstr("missing.jsonl"), HasSubstr("does not exist")));
  EXPECT_THAT(error_of([&] { rows_of(dir.write("empty.jsonl", "\n \n")); }),
              AllOf(HasSubstr("empty.jsonl"), HasSubstr("no rows")));
  EXPECT_THAT(error_of([&] { rows_of(dir.write("a.json", "[]")); }), HasSubstr("no rows"));
  EXPECT_THAT(error_of([&] { rows_of(dir.write("a.json", "[{\"a\": 1},")); }),
              HasSubstr("not closed"));
}

}  // namespace
}  // namespace aerie
