// Prompts with images through the engine: what transformers generates, and the same whatever the
// draft, the batch or the cuts of the prompt, which fall inside images too.
#include <gtest/gtest.h>

#include "decoding/autoregressive.h"
#include "decoding/engine.h"
#include "decoding/text_target.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::golden_dir;

constexpr int64_t kNew = 12;  // as scripts/make_golden_vision.py

// The first question of each of its conversations.
constexpr const char* kRows[] = {
    R"({"id": "one", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "Read this: "}, {"type": "image", "image": "turned.jpg"},
        {"type": "text", "text": " please."}]}]})",
    R"({"id": "two", "messages": [{"role": "user", "content": [
        {"type": "image", "image": "palette.png"}, {"type": "text", "text": " and "},
        {"type": "image", "image": "grey.jpg"}, {"type": "text", "text": " differ?"}]}]})",
    R"({"id": "none", "prompt": "No image here."})"};

std::vector<PromptRow> prompt_rows() {
  std::vector<PromptRow> rows;
  for (const char* row : kRows)
    rows.push_back({"", parse_conversation(row, golden_dir() / "images")});
  return rows;
}

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

TEST(VisionDecoding, ContinuesAsTransformers) {
  const fs::path directory = golden_dir() / "models/qwen2_5_vl";
  const TextTarget target(directory, "cpu", "float32");
  const SafetensorsFile values(directory / "values.safetensors");
  const std::vector<Request> requests = make_requests(target, prompt_rows(), {kNew, 0, 0, true});
  AutoregressiveDecoder decoder;
  const auto all = outputs(target, decoder, requests, {1, 512});
  for (size_t d = 0; d < all.size(); ++d) {
    const at::Tensor expected = values.tensor(fmt::format("{}.continuation", d));
    const int64_t* tokens = expected.const_data_ptr<int64_t>();
    EXPECT_EQ(all[d], std::vector<int32_t>(tokens, tokens + expected.numel())) << d;
  }
}

TEST(VisionDecoding, OutputsDoNotDependOnDraftBatchOrCuts) {
  const TextTarget target(golden_dir() / "models/qwen2_5_vl", "cpu", "bfloat16");
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

/// The draft meets every token at the RoPE positions that the target met it at.
TEST(VisionDecoding, TextBehindAnImageCountsOnFromItsLongestSide) {
  const TextTarget target(golden_dir() / "models/qwen2_5_vl", "cpu", "bfloat16");
  Sequence sequence;
  sequence.request = make_requests(target, prompt_rows(), {kNew, 0, 0, true})[1];
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
