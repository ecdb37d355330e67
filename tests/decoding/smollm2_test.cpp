// SmolLM2 in bf16 on 40 real prompts: speculative greedy output is the autoregressive one, token
// for token, whatever the draft and the batch. Lengths are short: every forward is a chance to
// differ.
#include <gtest/gtest.h>

#include "common/files.h"
#include "decoding/acceptance_count.h"
#include "decoding/autoregressive.h"
#include "decoding/text_target.h"
#include "tests/decoding/test_drafts.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::copier_draft;
using testing::random_draft;

class SmolLM2 : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const fs::path directory = testing::smollm2_dir();
    ASSERT_TRUE(fs::exists(directory / "model.safetensors"))
        << directory << " is not there: run scripts/fetch_smollm2.sh first";
    target_ = new TextTarget(directory, "cpu", "bfloat16");
    const auto rows = read_prompts(testing::test_dir() / "data/prompts_40.jsonl");
    requests_ = new std::vector<Request>(make_requests(*target_, rows, {16, 0.0, 0, false}));
    AutoregressiveDecoder decoder;
    expected_ = new std::vector<std::vector<int32_t>>(outputs(decoder, 8, nullptr));
  }
  static void TearDownTestSuite() {
    delete expected_;
    delete requests_;
    delete target_;
  }
  void SetUp() override { ASSERT_NE(target_, nullptr) << "the model could not be loaded"; }

  static std::vector<std::vector<int32_t>> outputs(Decoder& decoder, int64_t concurrency,
                                                   AcceptanceCount* count, size_t prompts = 40) {
    const std::vector<Request> requests(requests_->begin(), requests_->begin() + prompts);
    Engine engine(*target_->model, decoder,
                  {{concurrency, kRowBudget}, target_->pages_for(requests, concurrency)});
    std::vector<std::vector<int32_t>> all;
    for (const Completion& completion : run_requests(engine, requests)) {
      if (count != nullptr) count->add(completion);
      all.push_back(completion.tokens);
    }
    return all;
  }

  /// Of the first `prompts`.
  static std::vector<std::vector<int32_t>> expected(size_t prompts) {
    return {expected_->begin(), expected_->begin() + prompts};
  }

  static TextTarget* target_;
  static std::vector<Request>* requests_;
  static std::vector<std::vector<int32_t>>* expected_;
};
TextTarget* SmolLM2::target_ = nullptr;
std::vector<Request>* SmolLM2::requests_ = nullptr;
std::vector<std::vector<int32_t>>* SmolLM2::expected_ = nullptr;

TEST_F(SmolLM2, ThereAre40PromptsAndTheirAnswersAreText) {
  ASSERT_EQ(expected_->size(), 40u);
  size_t letters = 0;
  for (const auto& tokens : *expected_) letters += target_->decode(tokens).size();
  EXPECT_GT(letters, 40u * 30);
}

TEST_F(SmolLM2, AutoregressiveOutputDoesNotDependOnTheBatch) {
  AutoregressiveDecoder decoder;
  EXPECT_EQ(outputs(decoder, 4, nullptr), *expected_);
}

TEST_F(SmolLM2, ARandomDraftChangesNothingAtBatch1And4And8) {
  const auto draft = random_draft(*target_->model, {1, 14, 26}, 24, 3);
  for (const int64_t concurrency : {1, 4, 8}) {
    EXPECT_EQ(outputs(*draft.decoder(*target_->model, 4), concurrency, nullptr), *expected_);
  }
}

TEST_F(SmolLM2, ADraftThatIsSometimesRightChangesNothingAtBatch1And4And8) {
  const auto draft = copier_draft(*target_->model, {0, 14, 26}, 1);
  for (const int64_t concurrency : {1, 4, 8}) {
    AcceptanceCount count;
    EXPECT_EQ(outputs(*draft.decoder(*target_->model, 3), concurrency, &count, 12), expected(12));
    EXPECT_GT(count.length(), 1.0) << "no guess ever held: the test shows little";
  }
}

TEST_F(SmolLM2, TreesChangeNothingAtBatch1And4And8) {
  const auto draft = copier_draft(*target_->model, {0, 14, 26}, 1);
  for (const int64_t concurrency : {1, 4, 8}) {
    AcceptanceCount count;
    const auto decoder = draft.decoder(*target_->model, Speculation{4, 4, 15});
    EXPECT_EQ(outputs(*decoder, concurrency, &count, 12), expected(12));
    EXPECT_GT(count.length(), 1.0) << "no guess ever held: the test shows little";
  }
}

TEST_F(SmolLM2, GuessesFromTheTextItselfChangeNothing) {
  const auto decoder = make_ngram_decoder(Speculation{6});
  EXPECT_EQ(outputs(*decoder, 4, nullptr), *expected_);
}

// The model was never taught what a mask is: its guesses are bad, and change nothing.
TEST_F(SmolLM2, VerifiedMasksChangeNothingAtBatch1And4And8) {
  for (const int64_t concurrency : {1, 4, 8}) {
    Diffusion rule{4, {3.0, 0.02}};
    rule.mask_token = 5;
    const auto decoder = make_diffusion_decoder(rule, *target_->model);
    EXPECT_EQ(outputs(*decoder, concurrency, nullptr), *expected_);
  }
}

TEST_F(SmolLM2, AnOverLongPromptIsRefusedWithItsRow) {
  PromptRow row;
  row.id = "long-one";
  row.conversation.input_ids.assign(9000, 5);
  row.conversation.loss_mask.assign(9000, 0);
  try {
    make_requests(*target_, {row}, {20, 0.0, 0, false});
    FAIL() << "a prompt of 9000 tokens was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what())
                  .find("row long-one: the prompt has 9000 tokens and the "
                        "model's context holds 8192"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace aerie
