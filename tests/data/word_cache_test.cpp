// Where a text may be cut, and which tokenizers allow it. That ids stay the same is shown for every
// kind of tokenizer in tokenizer_test.cpp.
#include "data/word_cache.h"

#include <gmock/gmock.h>

#include "common/threads.h"
#include "data/tokenizer.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    words.emplace_back(text.substr(0, next_word(text)));
    text.remove_prefix(words.back().size());
  }
  return words;
}

TEST(WordCache, CutsBeforeABlankThatFollowsAVisibleCharacter) {
  EXPECT_THAT(words_of("one two, 3"), ElementsAre("one", " two,", " 3"));
  EXPECT_THAT(words_of("a  b"), ElementsAre("a", "  b")) << "white space may be one match";
  EXPECT_THAT(words_of(" a\n b"), ElementsAre(" a\n b"));
  EXPECT_THAT(words_of("a "), ElementsAre("a", " "));
  EXPECT_THAT(words_of("\u00a0 a é b"), ElementsAre("\u00a0 a", " é b"))
      << "a byte of another character says nothing";
}

constexpr const char* kHead =
    R"({{"added_tokens": [{}], "normalizer": {}, "pre_tokenizer": {}, "model": {{"type": "{}", "vocab": {{"a": 0}}}}}})";
constexpr const char* kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";

bool apart(const std::string& added, const std::string& normalizer, const std::string& pre,
           const std::string& model) {
  return encodes_words_apart(fmt::format(fmt::runtime(kHead), added, normalizer, pre, model));
}

TEST(WordCache, OnlyForTokenizersThatCutThereToo) {
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
  const std::string plain = R"({"content": "<s>", "rstrip": false, "single_word": false})";
  EXPECT_TRUE(apart(plain, "null", kByteLevel, "BPE"));
  EXPECT_FALSE(apart(R"({"content": "<a b>", "rstrip": false, "single_word": false})", "null",
                     kByteLevel, "BPE"));
  EXPECT_FALSE(apart(R"({"content": "<s>", "rstrip": true, "single_word": false})", "null",
                     kByteLevel, "BPE"));
  EXPECT_FALSE(encodes_words_apart("{}"));
  EXPECT_FALSE(encodes_words_apart("[1, "));
}

TEST(WordCache, KeepsWhatItWasGivenAndForgetsRatherThanGrow) {
  WordCache cache;
  Encoding found;
  EXPECT_FALSE(cache.append(" word", 7, found));
  cache.put(" word", {{5, 6}, {{0, 2}, {2, 5}}});
  EXPECT_TRUE(cache.append(" word", 7, found));
  EXPECT_THAT(found.ids, ElementsAre(5, 6));
  EXPECT_EQ(found.offsets[1], (std::array<uint32_t, 2>{9, 12}));
  // More words than there is room for, from several threads.
  parallel_for(0, 300'000, 1000, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cache.put(std::to_string(i), {{static_cast<int32_t>(i)}, {{0, 1}}});
    }
  });
  int64_t kept = 0;
  for (int64_t i = 0; i < 300'000; ++i) {
    Encoding one;
    if (!cache.append(std::to_string(i), 0, one)) continue;
    ASSERT_EQ(one.ids[0], i);
    ++kept;
  }
  EXPECT_GT(kept, 50'000);
  EXPECT_LT(kept, 200'000);
}

}  // namespace
}  // namespace aerie
