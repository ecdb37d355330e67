// Where a text may be cut, and which tokenizers allow it. That ids stay the same is shown for every
// kind of tokenizer in tokenizer_test.cpp.
#include "data/word_cutter.h"

#include <gmock/gmock.h>

#include "common/error.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;

const WordCutter kPlain({});

std::vector<std::string> words_of(std::string_view text, const WordCutter& cutter = kPlain) {
  std::vector<std::string> words;
  while (!text.empty()) {
    words.emplace_back(text.substr(0, cutter.next(text)));
    text.remove_prefix(words.back().size());
  }
  return words;
}

TEST(WordCutter, CutsBeforeABlankThatFollowsNoWhiteSpace) {
  EXPECT_THAT(words_of("one two, 3"), ElementsAre("one", " two,", " 3"));
  EXPECT_THAT(words_of("a "), ElementsAre("a", " "));
  EXPECT_THAT(words_of("a é b  。 한국 말 да"),
              ElementsAre("a", " é", " b", "  。", " 한국", " 말", " да"));
  EXPECT_THAT(words_of("\u00a0 é\u3000 。\u2009 é"), ElementsAre("\u00a0 é\u3000 。\u2009 é"))
      << "white space may be one match";
}

TEST(WordCutter, CutsBeforeTheBlankThatAWordTakes) {
  EXPECT_THAT(words_of("a  b\n    {\n\t c"), ElementsAre("a", " ", " b\n   ", " {\n\t", " c"));
}

TEST(WordCutter, CutsBehindALoneLineFeed) {
  EXPECT_THAT(words_of("one\ntwo\n3"), ElementsAre("one\n", "two\n", "3"));
  EXPECT_THAT(words_of("\na"), ElementsAre("\n", "a"));
  EXPECT_THAT(words_of("a\n\nb"), ElementsAre("a\n\nb")) << "GPT-2 matches these one by one";
  EXPECT_THAT(words_of("a\r\nb \nc"), ElementsAre("a\r\nb", " \nc"));
  EXPECT_THAT(words_of("é\nb\u00a0\nc\né"), ElementsAre("é\n", "b\u00a0\nc\né"));
}

TEST(WordCutter, CutsAroundAddedTokens) {
  const WordCutter cutter({"<s>", "<s>>", "<e>"});
  EXPECT_THAT(words_of("a<s>b<e>\nc d", cutter),
              ElementsAre("a", "<s>", "b", "<e>", "\n", "c", " d"));
  EXPECT_THAT(words_of("a  <s> \n<e>  b", cutter),
              ElementsAre("a", "  ", "<s>", " \n", "<e>", " ", " b"));
  EXPECT_THAT(words_of("<s>>><s", cutter), ElementsAre("<s>>", "><s")) << "the longest";
}

constexpr const char* kHead =
    R"({{"added_tokens": [{}], "normalizer": {}, "pre_tokenizer": {}, "model": {{"type": "{}", "vocab": {{"a": 0}}}}}})";
constexpr const char* kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";

bool apart(const std::string& added, const std::string& normalizer, const std::string& pre,
           const std::string& model) {
  return find_word_cutter(fmt::format(fmt::runtime(kHead), added, normalizer, pre, model))
      .has_value();
}

TEST(WordCutter, OnlyForTokenizersThatCutThereToo) {
  EXPECT_TRUE(apart("", "null", kByteLevel, "BPE"));
  EXPECT_TRUE(apart("", R"({"type": "NFC"})", kByteLevel, "BPE"));
  EXPECT_TRUE(apart("", "null",
                    R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"}, )" +
                        std::string(kByteLevel) + "]}",
                    "BPE"));
  EXPECT_FALSE(apart("", R"({"type": "Prepend", "prepend": "_"})", kByteLevel, "BPE"));
  EXPECT_FALSE(apart("", "null", kByteLevel, "Unigram"));
  EXPECT_FALSE(apart("", "null", "null", "BPE"));
  EXPECT_FALSE(apart("", "null", R"({"type": "ByteLevel", "add_prefix_space": true})", "BPE"));
  EXPECT_FALSE(apart("", "null",
                     R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "behavior": )"
                     R"("Isolated", "invert": false, "pattern": {"Regex": "\\w+ \\w+"}}, )"
                     R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})",
                     "BPE"))
      << "an unknown pattern";
  const std::string plain =
      R"({"content": "<s>", "lstrip": false, "rstrip": false, "single_word": false})";
  EXPECT_TRUE(apart(plain, "null", kByteLevel, "BPE"));
  EXPECT_FALSE(
      apart(R"({"content": "<a b>", "lstrip": false, "rstrip": false, "single_word": false})",
            "null", kByteLevel, "BPE"));
  EXPECT_FALSE(apart(R"({"content": "<s>", "rstrip": true, "single_word": false})", "null",
                     kByteLevel, "BPE"));
  EXPECT_FALSE(apart(R"({"content": "<s>", "lstrip": true, "rstrip": false, "single_word": false})",
                     "null", kByteLevel, "BPE"));
  EXPECT_FALSE(
      apart(R"({"content": "\n\n", "lstrip": false, "rstrip": false, "single_word": false})",
            "null", kByteLevel, "BPE"));
  EXPECT_FALSE(find_word_cutter("{}"));
  EXPECT_FALSE(find_word_cutter("[1, "));
}

}  // namespace
}  // namespace aerie
