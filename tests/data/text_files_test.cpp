#include "data/text_files.h"

#include <gmock/gmock.h>
#include <zlib.h>

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
      ElementsAre(Pair("{\"a\": \"],\\\"[\"}", 2), Pair("[1, {\"b\": []}]", 3), Pair("3", 3)));
}

TEST(TextFiles, RowsMayBeLongerThanABlockOfTheFile) {
  Scratch dir;
  const std::string longest(3'000'000, 'x'), word = "\"" + longest + "\"";
  const Rows lines = rows_of(dir.write("a.jsonl", "1\n" + word + "\n\n2"));
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[1], std::pair(word, int64_t{2}));
  EXPECT_EQ(lines[2], std::pair(std::string("2"), int64_t{4}));
  const Rows elements = rows_of(dir.write("a.json", "[1,\n" + word + ",\n\n2]"));
  ASSERT_EQ(elements.size(), 3u);
  EXPECT_EQ(elements[1], std::pair(word, int64_t{2}));
  EXPECT_EQ(elements[2], std::pair(std::string("2"), int64_t{4}));
}

TEST(TextFiles, EveryCutOfAnArrayGivesTheSameElements) {
  // The escapes, brackets and quotes lie at every place relative to a block's end.
  const std::string elements = R"({"a": "]\\\",["}, [[], "\\"], "x,y")";
  for (size_t padding = 0; padding < 40; ++padding) {
    Scratch dir;
    const std::string filler((size_t{1} << 20) - padding, 'x');
    const Rows rows = rows_of(dir.write("a.json", "[\"" + filler + "\"," + elements + "]"));
    ASSERT_EQ(rows.size(), 4u) << padding;
    EXPECT_EQ(rows[1].first + ", " + rows[2].first + ", " + rows[3].first, elements) << padding;
  }
}

TEST(TextFiles, GzipMembersFollowEachOtherAndACutIsNamed) {
  Scratch dir;
  std::string once;
  {
    gzFile file = gzopen((dir / "once.jsonl.gz").c_str(), "wb");
    for (int i = 0; i < 5000; ++i) gzprintf(file, "{\"a\": %d}\n", i);
    gzclose(file);
    once = read_file(dir / "once.jsonl.gz");
  }
  const Rows rows = rows_of(dir.write("twice.jsonl.gz", once + once));
  ASSERT_EQ(rows.size(), 10000u);
  EXPECT_EQ(rows.back(), std::pair(std::string("{\"a\": 4999}"), int64_t{10000}));
  EXPECT_THAT(
      error_of([&] { rows_of(dir.write("cut.jsonl.gz", once.substr(0, once.size() / 2))); }),
      AllOf(HasSubstr("cut.jsonl.gz"), HasSubstr("decompress")));
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
  const std::string whole = frame("{\"a\":1}\n");
  EXPECT_THAT(error_of([&] { read_text(dir.write("c.zst", whole.substr(0, whole.size() - 2))); }),
              AllOf(HasSubstr("c.zst"), HasSubstr("cut off")));
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
  for (const char* rest : {"[1]\n\n[2]", "[1,\n]\n{}", "[1]\n\n,"}) {
    EXPECT_THAT(error_of([&] { rows_of(dir.write("a.json", rest)); }),
                HasSubstr("a.json:3: text after the JSON array"));
  }
}

}  // namespace
}  // namespace aerie
