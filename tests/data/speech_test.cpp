// Rows of a target that speaks: what they hold, the ids that they become, and what is refused.
#include <gmock/gmock.h>

#include "data/chat_encoder.h"
#include "data/safetensors.h"
#include "data/speech_encoder.h"
#include "data/text_files.h"
#include "tests/testing.h"

namespace aerie::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

fs::path model_dir() { return golden_dir() / "models/cosyvoice3"; }

class Speech : public ::testing::Test {
 protected:
  /// Why `row` cannot be used.
  std::string refusal(const std::string& row) const {
    return error_of([&] { encoder_.encode(parse_conversation(row, scratch_.path())); });
  }
  std::vector<int32_t> ids_of(const std::string& row) const {
    return encoder_.encode(parse_conversation(row, scratch_.path())).ids;
  }

  Scratch scratch_;
  Tokenizer tokenizer_{model_dir()};
  SpeechEncoder encoder_{tokenizer_, *read_speech_ids(model_dir())};
};

/// scripts/make_golden_speech.py writes the same rows and, by its own means, their ids.
TEST_F(Speech, RowsBecomeTheIdsOfTheGolden) {
  const SafetensorsFile values(model_dir() / "values.safetensors");
  const at::Tensor all = values.tensor("tokens");
  std::vector<int32_t> ids;
  int64_t row = 0;
  for_each_row(model_dir() / "rows.jsonl", [&](std::string_view text, int64_t) {
    const EncodedChat encoded = encoder_.encode(parse_conversation(text));
    const int64_t speech = row++ == 0 ? 11 : 12;
    const auto size = static_cast<int64_t>(encoded.ids.size());
    // The answer is supervised, its end included; the voice to copy is not.
    EXPECT_THAT(encoded.turns,
                ElementsAre(std::array<int32_t, 2>{static_cast<int32_t>(size - speech - 1),
                                                   static_cast<int32_t>(size)}));
    for (int64_t i = 0; i < size; ++i) EXPECT_EQ(encoded.assistant[i], i >= size - speech - 1) << i;
    ids.insert(ids.end(), encoded.ids.begin(), encoded.ids.end());
  });
  EXPECT_EQ(row, 2);
  EXPECT_TRUE(at::equal(at::tensor(ids, at::kLong), all));
}

TEST_F(Speech, APromptEndsWhereTheTargetSpeaks) {
  const Conversation row =
      parse_conversation(R"({"text": "Hi", "prompt_speech": [4, 9], "speech": [1, 2]})");
  const std::vector<int32_t> whole = encoder_.encode(row).ids, prompt = encoder_.encode_prompt(row);
  EXPECT_THAT(prompt, ElementsAre(88, 96 + 'H' - '!', 96 + 'i' - '!', 90, 4, 9));
  EXPECT_EQ(std::vector<int32_t>(whole.begin(), whole.begin() + 6), prompt);
  EXPECT_EQ(encoder_.decode(whole), "88 Hi 90 4 9 1 2 89");
}

TEST_F(Speech, ASpeechThatWasCutHasNoEnd) {
  EXPECT_THAT(ids_of(R"({"text": "H", "speech": [1, 2]})"),
              ElementsAre(88, 96 + 'H' - '!', 90, 1, 2, 89));
  EXPECT_THAT(ids_of(R"({"text": "H", "speech": [1, 2], "finish_reason": "length"})"),
              ElementsAre(88, 96 + 'H' - '!', 90, 1, 2));
  // As `tokens` of generate hold it: any id behind the codes ended it.
  EXPECT_EQ(ids_of(R"({"text": "H", "speech": [1, 2, 93]})"),
            ids_of(R"({"text": "H", "speech": [1, 2]})"));
}

TEST_F(Speech, IdsMayStandInAFile) {
  scratch_.write("voice.txt", "4 9\n0\n");
  scratch_.write("answer.json", "[1, 2]");
  EXPECT_EQ(ids_of(R"({"text": "Hi", "prompt_speech": "voice.txt", "speech": "answer.json"})"),
            ids_of(R"({"text": "Hi", "prompt_speech": [4, 9, 0], "speech": [1, 2]})"));
}

TEST_F(Speech, AnAnsweredRowReadsBackAsItself) {
  const Conversation asked = parse_conversation(
      R"({"id": "a", "prompt_text": "Calm.<|endofprompt|>", "prompt_speech": [3], "text": "Yes."})");
  for (const char* reason : {"stop", "length"}) {
    const Json answered = speech_row_json(*asked.speech, {7, 8}, reason);
    const Conversation read = parse_conversation(answered.dump());
    EXPECT_EQ(encoder_.encode_prompt(read), encoder_.encode_prompt(asked));
    EXPECT_THAT(read.speech->speech, ElementsAre(7, 8));
    EXPECT_EQ(read.speech->cut, std::string(reason) == "length");
  }
}

TEST_F(Speech, RowsThatCannotBeUsedSayWhy) {
  scratch_.write("bad.txt", "4 nine 0");
  EXPECT_THAT(refusal(R"({"text": "Hi"})"), HasSubstr("no speech"));
  EXPECT_THAT(refusal(R"({"text": " ", "speech": [1]})"), HasSubstr("nothing to say"));
  EXPECT_THAT(refusal(R"({"text": "Hi", "speech": [1, 88, 2]})"), HasSubstr("88 of 88 codes"));
  EXPECT_THAT(refusal(R"({"text": "Hi", "speech": [-1]})"), HasSubstr("-1 of 88 codes"));
  EXPECT_THAT(refusal(R"({"text": "Hi", "speech": [1.5]})"), HasSubstr("speech holds 1.5"));
  EXPECT_THAT(refusal(R"({"text": "Hi", "speech": 3})"), HasSubstr("neither a list nor the name"));
  EXPECT_THAT(refusal(R"({"text": "Hi", "speech": "bad.txt"})"),
              HasSubstr("bad.txt holds \"nine\""));
  EXPECT_THAT(refusal(R"({"text": "Hi", "speech": "absent.txt"})"), HasSubstr("absent.txt"));
  EXPECT_THAT(refusal(R"({"prompt": "Hi", "response": "Hello"})"), HasSubstr("the target speaks"));
  EXPECT_THAT(refusal(R"({"input_ids": [88, 100, 90, 100], "loss_mask": [0, 0, 0, 1]})"),
              HasSubstr("100 is supervised"));
}

TEST_F(Speech, ATargetThatWritesTextTakesNoSpeech) {
  const fs::path other = golden_dir() / "models/qwen2_audio";
  EXPECT_FALSE(read_speech_ids(other));
  const Tokenizer tokenizer(other);
  const ChatTemplate chat_template(other);
  const ChatEncoder encoder(tokenizer, chat_template, {});
  const Conversation row = parse_conversation(R"({"text": "Hi", "speech": [1]})");
  EXPECT_THAT(error_of([&] { encoder.encode(row); }), HasSubstr("the target writes text"));
}

}  // namespace
}  // namespace aerie::testing
