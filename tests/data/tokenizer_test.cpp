// Ids and texts must be exactly the Python tokenizer's.
#include "data/tokenizer.h"

#include <gmock/gmock.h>

#include <random>

#include "common/error.h"
#include "common/files.h"
#include "tests/data/text_golden.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::smollm2_dir;

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

const std::vector<std::string>& strings() {
  static const std::vector<std::string> all =
      Json::parse(read_text(golden_text_dir() / "strings.json.gz"));
  return all;
}

class TokenizerParity : public ::testing::TestWithParam<const char*> {
 protected:
  Tokenizer tokenizer_{std::string(GetParam()) == "smollm2"
                           ? smollm2_dir()
                           : golden_text_dir() / "tokenizers" /
                                 (std::string(GetParam()) + ".json")};
  const Json& golden_ = golden_text().at("tokenizers").at(GetParam());
  // Of the others, one drops bytes that it has no token for, two normalise characters away.
  const bool covers_ = std::string_view(GetParam()).starts_with("llama");
};
INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerParity,
                         ::testing::Values("smollm2", "llama3", "qwen", "llama2", "unigram"));

TEST_P(TokenizerParity, IdsAndTextsEqualPython) {
  ASSERT_GE(strings().size(), 2000u);
  std::vector<int32_t> with_special;
  std::string skipped;
  for (size_t i = 0; i < strings().size(); ++i) {
    const auto ids = tokenizer_.encode(strings()[i]).ids;
    ASSERT_EQ(crc32(fmt::format("{}", fmt::join(ids, ","))), golden_.at("ids")[i])
        << i << ": " << Json(strings()[i]).dump() << " -> "
        << fmt::format("{}", fmt::join(ids, " "));
    ASSERT_EQ(crc32(tokenizer_.decode(ids, false)), golden_.at("decoded")[i])
        << i << ": " << Json(strings()[i]).dump();
    skipped += (i ? "\n" : "") + tokenizer_.decode(ids, true);
    const auto special = tokenizer_.encode(strings()[i], true).ids;
    with_special.insert(with_special.end(), special.begin(), special.end());
  }
  EXPECT_EQ(crc32(fmt::format("{}", fmt::join(with_special, ","))), golden_.at("with_special"));
  EXPECT_EQ(crc32(skipped), golden_.at("skip_special"));
}

TEST_P(TokenizerParity, WordByWordIsTheWholeText) {
  const std::string_view kind = GetParam();
  EXPECT_EQ(tokenizer_.word_by_word(), kind != "llama2" && kind != "unigram");
  std::string all;  // of every script, with what one text's end does to the next one's begin
  for (const std::string& text : strings()) {
    all += text + " ";
    const Encoding words = tokenizer_.encode(text), whole = tokenizer_.encode_whole(text, false);
    ASSERT_EQ(words.ids, whole.ids) << Json(text).dump();
    ASSERT_EQ(words.offsets, whole.offsets) << Json(text).dump();
  }
  EXPECT_EQ(tokenizer_.encode(all).ids, tokenizer_.encode_whole(all, false).ids);
}

TEST_P(TokenizerParity, WordByWordIsTheWholeTextAroundWhiteSpaceAndAddedTokens) {
  const std::string token = tokenizer_.id_to_token(tokenizer_.added_tokens().back().id);
  const std::vector<std::string> parts = {"\n",
                                          "\n",
                                          " ",
                                          "\t",
                                          "\r",
                                          "a",
                                          "I'll",
                                          "7",
                                          "?",
                                          "é",
                                          "\u0338",
                                          "\u00a0",
                                          "\u3000",
                                          "한",
                                          "\u2009",
                                          token,
                                          token.substr(0, 3)};
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (size_t part = 2 + random() % 9; part > 0; --part) text += parts[random() % parts.size()];
    const Encoding words = tokenizer_.encode(text), whole = tokenizer_.encode_whole(text, false);
    ASSERT_EQ(words.ids, whole.ids) << Json(text).dump();
    ASSERT_EQ(words.offsets, whole.offsets) << Json(text).dump();
  }
}

TEST_P(TokenizerParity, OffsetsEqualPythons) {
  for (size_t i = 0; i < strings().size(); ++i) {
    std::vector<uint32_t> ends;
    for (const auto& [begin, end] : tokenizer_.encode(strings()[i]).offsets) {
      ends.insert(ends.end(), {begin, end});
    }
    EXPECT_EQ(crc32(fmt::format("{}", fmt::join(ends, ","))), golden_.at("offsets")[i])
        << i << ": " << Json(strings()[i]).dump() << " -> "
        << fmt::format("{}", fmt::join(ends, " "));
  }
}

TEST_P(TokenizerParity, OffsetsAreOrderedAndCoverTheText) {
  for (const std::string& text : strings()) {
    const Encoding encoding = tokenizer_.encode(text);
    ASSERT_EQ(encoding.ids.size(), encoding.offsets.size());
    uint32_t begin = 0, end = 0;
    for (const auto& [b, e] : encoding.offsets) {
      ASSERT_LE(begin, b) << text;
      ASSERT_LE(b, e) << text;
      // A byte-level token that is a piece of a character reports the whole character.
      if (covers_) {
        ASSERT_LE(b, end) << "bytes without a token: " << text;
      }
      begin = b;
      end = std::max(end, e);
    }
    ASSERT_LE(end, text.size());
    if (covers_) {
      ASSERT_EQ(end, text.size()) << Json(text).dump();
    }
  }
}

TEST_P(TokenizerParity, BatchEqualsSingle) {
  const std::span<const std::string> some = std::span(strings()).first(500);
  const auto batch = tokenizer_.encode_batch(some, true, 3);
  ASSERT_EQ(batch.size(), some.size());
  for (size_t i = 0; i < some.size(); ++i) {
    const Encoding single = tokenizer_.encode(some[i], true);
    ASSERT_EQ(batch[i].ids, single.ids);
    ASSERT_EQ(batch[i].offsets, single.offsets);
  }
}

bool is_utf8(const std::string& text) {
  try {
    return !Json(text).dump().empty();
  } catch (const Json::exception&) {
    return false;
  }
}

TEST_P(TokenizerParity, StreamedPiecesJoinToTheWhole) {
  for (const std::string& text : strings()) {
    const auto ids = tokenizer_.encode(text).ids;
    StreamDecoder stream(false);
    std::string joined;
    for (const int32_t id : ids) {
      StreamDecoder copy = stream;
      const std::string piece = stream.push(tokenizer_, id);
      EXPECT_EQ(copy.push(tokenizer_, id), piece) << "the state is not plain data";
      ASSERT_TRUE(is_utf8(piece)) << "a piece splits a character of " << Json(text).dump();
      joined += piece;
    }
    joined += stream.finish(tokenizer_);
    ASSERT_EQ(joined, tokenizer_.decode(ids, false)) << Json(text).dump();
  }
}

TEST(Tokenizer, VocabularyOfSmolLM2) {
  const Tokenizer tokenizer(smollm2_dir());
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.token_to_id("<|im_end|>"), 2);
  EXPECT_EQ(tokenizer.token_to_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.id_to_token(1), "<|im_start|>");
  EXPECT_THROW(tokenizer.id_to_token(49152), Error);
  EXPECT_TRUE(tokenizer.is_special(2));
  EXPECT_FALSE(tokenizer.is_special(5000));
  EXPECT_FALSE(tokenizer.added_tokens().empty());
  EXPECT_EQ(tokenizer.fingerprint().size(), 16u);
}

TEST(Tokenizer, StreamHoldsAnIncompleteCharacterBack) {
  const Tokenizer tokenizer(golden_text_dir() / "tokenizers/llama3.json");
  const auto ids = tokenizer.encode("a🙂").ids;
  ASSERT_GT(ids.size(), 3u);
  StreamDecoder stream(false);
  EXPECT_EQ(stream.push(tokenizer, ids[0]), "a");
  for (size_t i = 1; i + 1 < ids.size(); ++i) EXPECT_EQ(stream.push(tokenizer, ids[i]), "");
  StreamDecoder cut_short = stream;
  EXPECT_EQ(stream.push(tokenizer, ids.back()), "🙂");
  EXPECT_EQ(cut_short.finish(tokenizer), "\uFFFD");
}

TEST(Tokenizer, BytesOfTokensJoinToTheText) {
  const std::string text = "Zoë naïve 🙂👩‍🚀 日本語 \u00AD\u00A0 a\n\t<b> \uFFFD";
  for (const std::filesystem::path& from :
       {smollm2_dir(), golden_text_dir() / "tokenizers/llama3.json"}) {
    const Tokenizer tokenizer(from);
    std::string joined;
    bool inside_character = false;
    for (const int32_t id : tokenizer.encode(text).ids) {
      const std::string bytes = tokenizer.token_bytes(id);
      inside_character |= (bytes.front() & 0xC0) == 0x80;
      joined += bytes;
    }
    EXPECT_EQ(joined, text) << from;
    EXPECT_TRUE(inside_character) << from;
    EXPECT_THROW(tokenizer.token_bytes(1 << 30), Error);
  }
}

TEST(Tokenizer, BadInputIsNamed) {
  const testing::Scratch dir;
  EXPECT_THAT(error_of([&] { Tokenizer t(dir.path()); }),
              HasSubstr((dir / "tokenizer.json").string()));
  write_file_atomic(dir / "tokenizer.json", "{\"model\": 3}");
  EXPECT_THAT(error_of([&] { Tokenizer t(dir.path()); }), HasSubstr("not a tokenizer"));
  const Tokenizer tokenizer(golden_text_dir() / "tokenizers/llama3.json");
  EXPECT_THAT(error_of([&] { tokenizer.encode("abc\xff"); }), HasSubstr("not UTF-8 at byte 3"));
  const std::vector<std::string> batch = {"fine", "\xff"};
  EXPECT_THAT(error_of([&] { tokenizer.encode_batch(batch, false, 2); }),
              HasSubstr("text 1 of the batch"));
}

// The decoder is to strip an "x" from both ends of a token, and the only token is one "x": the
// library slices [1..0] and panics.
TEST(Tokenizer, APanicInTheLibraryIsAnError) {
  const testing::Scratch dir;
  const Json decoder{{"type", "Strip"}, {"content", "x"}, {"start", 1}, {"stop", 1}};
  const Json model{{"type", "BPE"}, {"vocab", {{"x", 0}}}, {"merges", Json::array()}};
  dir.write("tokenizer.json",
            Json{{"version", "1.0"}, {"model", model}, {"decoder", decoder}}.dump());
  const Tokenizer tokenizer(dir.path());
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<int32_t>{0}, false); }),
                HasSubstr("internal error in the text library: slice index"));
    EXPECT_EQ(tokenizer.encode("x").ids, std::vector<int32_t>{0}) << "it works on";
  }
}

}  // namespace
}  // namespace aerie
