// Images in conversations: how rows name them, where their tokens stand, what is refused by name.
#include "data/media.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "data/base64.h"
#include "data/chat_encoder.h"
#include "data/packer.h"
#include "data/prepare.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::error_of;
using testing::golden_dir;
using ::testing::HasSubstr;
using testing::Scratch;

fs::path vision_target() { return golden_dir() / "models/qwen2_5_vl"; }

/// A row with one part of the given JSON and an answer.
std::string row_of(const std::string& part, const std::string& answer = "ok") {
  return fmt::format(
      R"({{"id": "r", "messages": [{{"role": "user", "content": [{}, {{"type": "text", "text": "?"}}]}},)"
      R"({{"role": "assistant", "content": "{}"}}]}})",
      part, answer);
}

TEST(Media, EveryFormOfAPartNamesOneFile) {
  for (const char* part :
       {R"({"type": "image", "image": "a/b.png"})", R"({"type": "image", "path": "a/b.png"})",
        R"({"type": "image", "url": "file:///data/a/b.png"})",
        R"({"type": "image_url", "image_url": {"url": "a/b.png"}})",
        R"({"type": "image_url", "image_url": "/data/a/./b.png"})"}) {
    const Conversation row = parse_conversation(row_of(part), "/data");
    const std::vector<MediaRef> media = media_of(row.messages);
    ASSERT_EQ(media.size(), 1u) << part;
    EXPECT_EQ(media[0].kind, MediaKind::kImage);
    EXPECT_EQ(media[0].source, "/data/a/b.png") << part;
  }
}

TEST(Media, WhatCannotBeReadIsRefusedByName) {
  const auto message = [](const char* part) {
    return error_of([&] { parse_conversation(row_of(part), "/data"); });
  };
  EXPECT_THAT(message(R"({"type": "image", "url": "https://a.org/b.png"})"),
              AllOf(HasSubstr("https://a.org/b.png"), HasSubstr("nothing is downloaded")));
  EXPECT_THAT(message(R"({"type": "image"})"), HasSubstr("names no file"));
  EXPECT_THAT(message(R"({"type": "video", "path": "a.mp4"})"), HasSubstr("\"video\""));
}

TEST(Media, DataUrlsHoldTheFile) {
  EXPECT_EQ(decode_base64("QWVyaWU="), "Aerie");
  EXPECT_EQ(decode_base64("QWVyaWU"), "Aerie");
  EXPECT_EQ(decode_base64("QW!y"), std::nullopt);
  EXPECT_EQ(decode_base64("QWVya"), std::nullopt);
  EXPECT_EQ(read_media("data:image/png;base64,QWVyaWU="), "Aerie");
  EXPECT_THAT(error_of([] { read_media("data:image/png,abc"); }), HasSubstr("must be base64"));
}

TEST(Media, SpansSurviveTheShards) {
  const std::vector<MediaSpan> spans{{MediaKind::kImage, "a.png", 3, 8, {1, 2, 3}, 1},
                                     {MediaKind::kAudio, "b \"c\".wav", 20, 7, {7, 1, 1}, 0}};
  const std::vector<MediaSpan> read = parse_media_text(media_text(spans));
  ASSERT_EQ(read.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read[i].kind, spans[i].kind);
    EXPECT_EQ(read[i].source, spans[i].source);
    EXPECT_EQ(read[i].begin, spans[i].begin);
    EXPECT_EQ(read[i].count, spans[i].count);
    EXPECT_EQ(read[i].grid, spans[i].grid);
    EXPECT_EQ(read[i].edge, spans[i].edge);
    EXPECT_EQ(read[i].tokens(), spans[i].count);
  }
  EXPECT_EQ(media_text({}), "");
  EXPECT_TRUE(parse_media_text("").empty());
}

TEST(Media, ADocumentThatIsCutKeepsWhatIsLeftOfItsMedia) {
  const std::vector<MediaSpan> spans{{MediaKind::kImage, "a", 3, 6, {1, 2, 3}},
                                     {MediaKind::kImage, "b", 12, 4, {1, 2, 2}}};
  const std::vector<MediaSpan> kept = media_before(spans, 7);
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].count, 4);
  EXPECT_EQ(kept[0].tokens(), 6);
}

class VisionRows : public ::testing::Test {
 protected:
  EncodedChat encode(const std::string& row) const {
    return encoder_.encode(parse_conversation(row, golden_dir() / "images"));
  }
  Tokenizer tokenizer_{vision_target()};
  ChatTemplate template_{vision_target()};
  MediaProcessors processors_ = read_media_processors(vision_target());
  ChatEncoder encoder_{tokenizer_, template_, {}, processors_};
};

TEST_F(VisionRows, APlaceholderBecomesTheTokensOfItsImage) {
  const EncodedChat chat = encode(row_of(R"({"type": "image", "image": "palette.png"})"));
  ASSERT_EQ(chat.media.size(), 1u);
  const MediaSpan& span = chat.media[0];
  EXPECT_EQ(span.grid, (MediaGrid{1, 4, 5}));  // 40 x 30 pixels: 40 x 32, tokens of 8 x 8
  EXPECT_EQ(span.count, 20);
  const std::vector<int32_t> ids(chat.ids.begin() + span.begin,
                                 chat.ids.begin() + span.begin + span.count);
  EXPECT_THAT(ids, Each(processors_.image->token()));
  EXPECT_NE(chat.ids[span.begin - 1], processors_.image->token());
  EXPECT_EQ(chat.assistant.size(), chat.ids.size());
  // The turn is where the assistant's bytes are, behind the image.
  ASSERT_EQ(chat.turns.size(), 1u);
  const auto [begin, end] = chat.turns[0];
  EXPECT_EQ(tokenizer_.decode(std::span(chat.ids).subspan(begin, end - begin), false),
            "ok<|im_end|>");
  for (int32_t i = 0; i < static_cast<int32_t>(chat.ids.size()); ++i)
    EXPECT_EQ(chat.assistant[i] == 1, begin <= i && i < end) << i;
}

TEST_F(VisionRows, BadImagesAreRowErrorsThatNameTheFile) {
  Scratch directory;
  directory.write("broken.png", read_file(golden_dir() / "images/alpha.png").substr(0, 200));
  const auto message = [&](const std::string& file) {
    const std::string part = fmt::format(R"({{"type": "image", "image": "{}"}})", file);
    return error_of([&] { encode(row_of(part)); });
  };
  EXPECT_THAT(message((directory / "broken.png").string()),
              AllOf(HasSubstr("broken.png"), HasSubstr("damaged or truncated")));
  EXPECT_THAT(message("absent.png"), HasSubstr("absent.png"));
  EXPECT_THAT(error_of([&] { encode(row_of(R"({"type": "audio", "audio": "a.wav"})")); }),
              HasSubstr("takes no audio"));
  EXPECT_THAT(error_of([&] {
                encode(R"({"messages": [{"role": "user", "content": "<|image_pad|>"},)"
                       R"({"role": "assistant", "content": "ok"}]})");
              }),
              HasSubstr("must not spell the placeholder"));
}

TEST(Media, ATextTargetRefusesImagesByName) {
  const fs::path directory = testing::smollm2_dir();
  const Tokenizer tokenizer(directory);
  const ChatTemplate chat_template(directory);
  const MediaProcessors processors = read_media_processors(directory);
  const ChatEncoder encoder(tokenizer, chat_template, {}, processors);
  EXPECT_THAT(
      error_of([&] {
        encoder.encode(parse_conversation(row_of(R"({"type": "image", "image": "a.png"})")));
      }),
      AllOf(HasSubstr("takes no images"), HasSubstr("SmolLM2")));
}

TEST(Media, PreparedRowsCarryTheirImagesIntoPacks) {
  Scratch directory;
  for (const char* name : {"palette.png", "turned.jpg"})
    fs::copy(golden_dir() / "images" / name, directory / name);
  PrepareOptions options;
  options.model_dir = vision_target();
  options.output = directory / "out";
  options.draft_vocab = 64;
  options.show_sample = false;
  options.train = {directory.write(
      "rows.jsonl", R"({"id": "text", "prompt": "q", "response": "a"})"
                    "\n" +
                        row_of(R"({"type": "image", "path": "palette.png"})") + "\n" +
                        row_of(R"({"type": "image", "path": "turned.jpg"})", "two") + "\n")};
  prepare(options);
  const TokenShards shards(PreparedData(options.output).train);
  ASSERT_EQ(shards.size(), 3);
  EXPECT_EQ(shards[0].media, "");
  PackOptions packing;
  packing.shuffle = false;
  Packer packer(shards, packing);
  const PackedTokens packed = packer.gather(packer.next());
  ASSERT_EQ(packed.media.size(), 2u);
  EXPECT_EQ(packed.media[1].source, (directory / "turned.jpg").string());
  const int32_t token = read_media_processors(vision_target()).image->token();
  for (const MediaSpan& span : packed.media) {
    EXPECT_TRUE(packed.tokens.narrow(0, span.begin, span.count).eq(token).all().item<bool>());
    EXPECT_FALSE(packed.tokens.narrow(0, span.begin - 1, 1).eq(token).any().item<bool>());
  }
}

}  // namespace
}  // namespace aerie
