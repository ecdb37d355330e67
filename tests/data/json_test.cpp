// The fast ways to read and write JSON against nlohmann's own.
#include "data/json.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "common/files.h"
#include "tests/testing.h"

namespace aerie {
namespace {

TEST(Json, ParsesAsNlohmannDoes) {
  for (
      const std::string text :
      {R"({"b": [1, -2, 3.25, 1e300, -0.0, 18446744073709551615, -9223372036854775808], "a": null})",
       R"([true, false, {}, [], "", {"": {"é\u00e9\ud83d\ude00\n\u0000": "\"\\\/"}}])",
       R"({"twice": 1, "other": 2, "twice": 3})", R"(123456789012345678901234567890)", R"("text")",
       "\xEF\xBB\xBF{\"marked\": 1}", "  [1 , 2]\r\n"}) {
    const Json ours = parse_json(text), theirs = Json::parse(text);
    EXPECT_EQ(ours, theirs) << text;
    EXPECT_EQ(ours.dump(), theirs.dump()) << text;
    const auto types = [](const Json& json) { return json.flatten().begin()->type(); };
    EXPECT_EQ(types(ours), types(theirs)) << text;
  }
}

TEST(Json, RowsOfMoreThanAThreadKeepsAndDeepOnes) {
  const std::string many = "[" + std::string(5'000'000, ' ') + "7]";
  EXPECT_EQ(parse_json(many), Json::array({7}));
  const std::string deep = std::string(5000, '[') + std::string(5000, ']');
  EXPECT_EQ(parse_json(deep).dump(), deep);
}

TEST(Json, WhatIsNotJsonIsRefusedInNlohmannsWords) {
  for (const std::string text : {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"\xff\"",
                                 "\"\\ud800\"", "\"a\nb\"", "01", "{\"a\": 1}}"}) {
    const auto error = [&](auto parse) -> std::string {
      try {
        return "taken as " + Json(parse(text)).dump();
      } catch (const Json::parse_error& e) {
        return e.what();
      }
    };
    const std::string theirs = error([](const std::string& t) { return Json::parse(t); });
    EXPECT_THAT(theirs, ::testing::HasSubstr("parse_error")) << text;
    EXPECT_EQ(error([](const std::string& t) { return parse_json(t); }), theirs);
  }
}

TEST(Json, StringsAreWrittenAsNlohmannReadsThem) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  for (const std::string& text : {all, std::string(), std::string("é\u2028😀\"\\")}) {
    std::string out = "[";
    append_json_string(out, text);
    EXPECT_EQ(Json::parse(out + "]")[0], text);
  }
  EXPECT_TRUE(is_utf8("é😀"));
  EXPECT_FALSE(is_utf8("a\xff"));
}

}  // namespace
}  // namespace aerie
