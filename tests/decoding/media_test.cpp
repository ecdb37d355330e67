// Prompts with images or speech through the engine: what transformers generates, and the same
// whatever the draft, the batch or the cuts of the prompt, which fall inside media too.
#include <gtest/gtest.h>

#include "decoding/autoregressive.h"
#include "decoding/engine.h"
#include "decoding/text_target.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::golden_dir;

struct MediaCase {
  const char *model, *media;      // directories of tests/golden
  std::vector<std::string> rows;  // those whose continuation the golden has
};

// The first question of each conversation of scripts/make_golden_vision.py; the conversations of
// scripts/make_golden_audio.py before their last answer.
const std::vector<std::string> kQuestions = {R"({"id": "one", "messages": [{"role": "user",
         "content": [{"type": "text", "text": "Read this: "},
         {"type": "image", "image": "turned.jpg"}, {"type": "text", "text": " please."}]}]})",
                                             R"({"id": "two", "messages": [{"role": "user",
         "content": [{"type": "image", "image": "palette.png"}, {"type": "text", "text": " and "},
         {"type": "image", "image": "grey.jpg"}, {"type": "text", "text": " differ?"}]}]})",
                                             R"({"id": "none", "prompt": "No image here."})"};
const MediaCase kQwen25{"models/qwen2_5_vl", "images", kQuestions},
    kQwen3{"models/qwen3_vl", "images", kQuestions},
    kQwen3Moe{"models/qwen3_vl_moe", "images", kQuestions},
    kHunyuan{"models/hunyuan_vl", "images", kQuestions};
const MediaCase kSpeech{"models/qwen2_audio",
                        "audio",
                        {R"({"id": "one", "messages": [{"role": "user", "content": [
         {"type": "audio", "audio": "speech.flac"}, {"type": "text", "text": "What is it?"}]}]})",
                         R"({"id": "two", "messages": [{"role": "system", "content": "Be brief."},
         {"role": "user", "content": [{"type": "text", "text": "Compare"},
          {"type": "audio", "audio": "speech.ogg"}, {"type": "audio", "audio": "speech.mp3"}]},
         {"role": "assistant", "content": "Equal."}, {"role": "user", "content": "Really?"}]})",
                         R"({"id": "none", "prompt": "No sound here."})"}};

class MediaDecoding : public ::testing::TestWithParam<MediaCase> {
 protected:
  fs::path directory() const { return golden_dir() / GetParam().model; }
  std::vector<PromptRow> prompt_rows() const {
    std::vector<PromptRow> rows;
    for (const std::string& row : GetParam().rows)
      rows.push_back({"", parse_conversation(row, golden_dir() / GetParam().media)});
    return rows;
  }
};

std::vector<std::vector<int32_t>> outputs(const TextTarget& target, Decoder& decoder,
                                          const std::vector<Request>& requests,
                                          SchedulerLimits limits) {
  Engine engine(*target.model, decoder,
                {limits, pages_for_requests(requests, limits.max_sequences)});
  std::vector<std::vector<int32_t>> all;
  for (Completion& completion : run_requests(engine, requests))
    all.push_back(std::move(completion.tokens));
  return all;
}

TEST_P(MediaDecoding, ContinuesAsTransformers) {
  const TextTarget target(directory(), "cpu", "float32");
  const SafetensorsFile values(directory() / "values.safetensors");
  const auto golden = [&values](size_t document) {
    const at::Tensor tokens = values.tensor(fmt::format("{}.continuation", document));
    const int64_t* data = tokens.const_data_ptr<int64_t>();
    return std::vector<int32_t>(data, data + tokens.numel());
  };
  const auto count = static_cast<int64_t>(golden(0).size());
  const std::vector<Request> requests = make_requests(target, prompt_rows(), {count, 0, 0, true});
  AutoregressiveDecoder decoder;
  const auto all = outputs(target, decoder, requests, {1, 512});
  for (size_t d = 0; d < all.size(); ++d) EXPECT_EQ(all[d], golden(d)) << d;
}

TEST_P(MediaDecoding, OutputsDoNotDependOnDraftBatchOrCuts) {
  const TextTarget target(directory(), "cpu", "bfloat16");
  const std::vector<Request> requests = make_requests(target, prompt_rows(), {40, 0, 0, true});
  AutoregressiveDecoder alone;
  const auto expected = outputs(target, alone, requests, {1, 512});
  const auto random = testing::random_draft(*target.model, {0, 1, 2}, 2, 5);
  const auto copier = testing::copier_draft(*target.model, {0, 1, 2}, 1);
  for (const int64_t concurrency : {1, 3}) {
    for (const int64_t budget : {5, 17, 512}) {
      AutoregressiveDecoder decoder;
      EXPECT_EQ(outputs(target, decoder, requests, {concurrency, budget}), expected);
      for (const auto* draft : {&random, &copier}) {
        EXPECT_EQ(
            outputs(target, *draft->decoder(*target.model, 3), requests, {concurrency, budget}),
            expected);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Images, MediaDecoding,
                         ::testing::Values(kQwen25, kQwen3, kQwen3Moe, kHunyuan));
INSTANTIATE_TEST_SUITE_P(Speech, MediaDecoding, ::testing::Values(kSpeech));

class ImageDecoding : public MediaDecoding {};
INSTANTIATE_TEST_SUITE_P(Images, ImageDecoding, ::testing::Values(kQwen25, kQwen3));

/// The draft meets every token at the RoPE positions that the target met it at.
TEST_P(ImageDecoding, TextBehindAnImageCountsOnFromItsLongestSide) {
  const TextTarget target(directory(), "cpu", "bfloat16");
  Sequence sequence;
  sequence.request = make_requests(target, prompt_rows(), {1, 0, 0, true})[1];
  encode_media(sequence, *target.model);
  const auto length = static_cast<int64_t>(sequence.request.prompt.size());
  int64_t saved = 0;  // tokens of the images, less what they take of the position count
  for (const MediaSpan& span : sequence.request.media)
    saved += span.count - std::max(span.grid[1], span.grid[2]);
  RopePositions positions(3);
  for (int64_t index = 0; index < length + 4; ++index) positions.add(sequence, index);
  const Tensor rows = positions.tensor();
  EXPECT_TRUE(at::equal(rows.narrow(1, 0, length), sequence.request.encoded.positions));
  for (int64_t axis = 0; axis < 3; ++axis) {
    for (int64_t index = length; index < length + 4; ++index)
      EXPECT_EQ(rows[axis][index].item<int64_t>(), index - saved);
  }
  RopePositions behind(3);
  behind.add(sequence, length);
  EXPECT_EQ(behind.tensor().dim(), 1) << "equal axes need one";
}

}  // namespace
}  // namespace aerie
