// A target that speaks through the engine: what PyTorch continues, and the same whatever the draft,
// the batch or the cuts of the prompt; prompts of text and voice, outputs of speech alone.
#include <gtest/gtest.h>

#include "decoding/autoregressive.h"
#include "decoding/text_target.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

fs::path directory() { return testing::golden_dir() / "models/cosyvoice3"; }

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

TEST(SpeechDecoding, ContinuesAsPyTorch) {
  const TextTarget target(directory(), "cpu", "float32");
  const SafetensorsFile values(directory() / "values.safetensors");
  const std::vector<Request> requests =
      make_requests(target, read_prompts(directory() / "rows.jsonl"), {24, 0, 0, true});
  AutoregressiveDecoder decoder;
  const auto all = outputs(target, decoder, requests, {1, 512});
  for (size_t row = 0; row < all.size(); ++row) {
    const at::Tensor expected = values.tensor(fmt::format("{}.continuation", row));
    EXPECT_TRUE(at::equal(at::tensor(all[row], at::kLong), expected)) << row;
  }
}

TEST(SpeechDecoding, AnyIdBehindTheCodesEndsAnAnswer) {
  const TextTarget target(directory(), "cpu", "float32");
  EXPECT_EQ(target.model->config().eos_tokens,
            (std::vector<int64_t>{88, 89, 90, 91, 92, 93, 94, 95}));
  const std::vector<int32_t> output{5, 17, 93};
  EXPECT_EQ(target.speech->codes_of(output), (std::vector<int32_t>{5, 17}));
  EXPECT_EQ(target.decode(output), "5 17 93");
}

/// The n-gram drafter may guess what the prompt says, text included; the target never agrees.
TEST(SpeechDecoding, OutputsDoNotDependOnDraftBatchOrCuts) {
  const TextTarget target(directory(), "cpu", "bfloat16");
  const std::vector<Request> requests =
      make_requests(target, read_prompts(directory() / "rows.jsonl"), {40, 0, 0, true});
  AutoregressiveDecoder alone;
  const auto expected = outputs(target, alone, requests, {1, 512});
  for (const auto& output : expected)
    for (const int32_t id : output) EXPECT_LT(id, target.model->config().vocab);
  const auto random = testing::random_draft(*target.model, {0, 1, 2}, 1, 5);
  const auto copier = testing::copier_draft(*target.model, {0, 1, 2}, 1);
  const auto ngram = make_ngram_decoder(Speculation{3});
  for (const int64_t concurrency : {1, 2}) {
    for (const int64_t budget : {5, 17, 512}) {
      const SchedulerLimits limits{concurrency, budget};
      EXPECT_EQ(outputs(target, *ngram, requests, limits), expected);
      for (const auto* draft : {&random, &copier}) {
        EXPECT_EQ(outputs(target, *draft->decoder(*target.model, 3), requests, limits), expected);
      }
    }
  }
}

TEST(SpeechDecoding, RepetitionIsPenalisedAmongWhatCanBeWritten) {
  const TextTarget target(directory(), "cpu", "float32");
  std::vector<Request> requests =
      make_requests(target, read_prompts(directory() / "rows.jsonl"), {16, 0, 0, true});
  for (Request& request : requests) request.sampling.repetition_penalty = 1e3;
  AutoregressiveDecoder decoder;
  for (std::vector<int32_t>& output : outputs(target, decoder, requests, {2, 512})) {
    std::sort(output.begin(), output.end());
    EXPECT_EQ(std::unique(output.begin(), output.end()), output.end());
  }
}

}  // namespace
}  // namespace aerie
