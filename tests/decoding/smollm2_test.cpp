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

using testing::KnownAnswer;
using testing::TestDraft;

const std::vector<int64_t> kCaptured{1, 14, 26};

class SmolLM2 : public ::testing::Test {
 protected:
  using Outputs = std::vector<std::vector<int32_t>>;

  static void SetUpTestSuite() {
    const fs::path directory = testing::smollm2_dir();
    ASSERT_TRUE(fs::exists(directory / "model.safetensors"))
        << directory << " is not there: run scripts/fetch_smollm2.sh first";
    target_ = new TextTarget(directory, "cpu", "bfloat16");
    const auto rows = read_prompts(testing::test_dir() / "data/prompts_40.jsonl");
    requests_ = new std::vector<Request>(make_requests(*target_, rows, {12, 0.0, 0, false}));
    AutoregressiveDecoder alone;
    expected_ = new Outputs(outputs(alone, 1));
  }
  static void TearDownTestSuite() {
    delete expected_;
    delete requests_;
    delete target_;
  }
  void SetUp() override { ASSERT_NE(target_, nullptr) << "the model could not be loaded"; }

  static Outputs outputs(Decoder& decoder, int64_t concurrency, AcceptanceCount* count = nullptr,
                         size_t prompts = 40) {
    const std::vector<Request> requests(requests_->begin(), requests_->begin() + prompts);
    Engine engine(*target_->model, decoder,
                  {{concurrency, kRowBudget}, target_->pages_for(requests, concurrency)});
    Outputs all;
    for (const Completion& completion : run_requests(engine, requests)) {
      if (count != nullptr) count->add(completion);
      all.push_back(completion.tokens);
    }
    return all;
  }

  /// Of the first `prompts`.
  static Outputs expected(size_t prompts) {
    return {expected_->begin(), expected_->begin() + prompts};
  }

  static TestDraft learnt_draft(size_t prompts) {
    std::vector<KnownAnswer> answers;
    for (size_t i = 0; i < prompts; ++i) {
      answers.push_back({(*requests_)[i].prompt, (*expected_)[i]});
    }
    return testing::learnt_draft(*target_->model, kCaptured, answers);
  }

  static TextTarget* target_;
  static std::vector<Request>* requests_;
  static Outputs* expected_;  ///< what the target says alone, one prompt after the other
};
TextTarget* SmolLM2::target_ = nullptr;
std::vector<Request>* SmolLM2::requests_ = nullptr;
SmolLM2::Outputs* SmolLM2::expected_ = nullptr;

TEST_F(SmolLM2, ThereAre40PromptsAndTheirAnswersAreText) {
  ASSERT_EQ(expected_->size(), 40u);
  size_t letters = 0;
  for (const auto& tokens : *expected_) letters += target_->decode(tokens).size();
  EXPECT_GT(letters, 40u * 25);
}

TEST_F(SmolLM2, AutoregressiveOutputDoesNotDependOnTheBatch) {
  AutoregressiveDecoder decoder;
  EXPECT_EQ(outputs(decoder, 8), *expected_);
}

// No guess holds: every step takes rows back.
TEST_F(SmolLM2, ARandomDraftChangesNothingAtBatch1And4And8) {
  const TestDraft draft = testing::random_draft(*target_->model, kCaptured, 24, 3);
  for (const int64_t concurrency : {1, 4, 8}) {
    AcceptanceCount count;
    EXPECT_EQ(outputs(*draft.decoder(*target_->model, 2), concurrency, &count), *expected_);
    EXPECT_LT(count.length(), 1.1);
  }
}

TEST_F(SmolLM2, ADraftWhoseGuessesHoldChangesNothingAtBatch1And4And8) {
  const TestDraft draft = learnt_draft(40);
  for (const int64_t concurrency : {1, 4, 8}) {
    AcceptanceCount count;
    EXPECT_EQ(outputs(*draft.decoder(*target_->model, 2), concurrency, &count), *expected_);
    EXPECT_GT(count.length(), 1.6);
  }
}

TEST_F(SmolLM2, TreesChangeNothingAtBatch1And4And8) {
  const TestDraft draft = learnt_draft(12);
  for (const int64_t concurrency : {1, 4, 8}) {
    AcceptanceCount count;
    const auto decoder = draft.decoder(*target_->model, Speculation{4, 4, 15});
    EXPECT_EQ(outputs(*decoder, concurrency, &count, 12), expected(12));
    EXPECT_GT(count.length(), 1.6);
  }
}

TEST_F(SmolLM2, GuessesFromTheTextItselfChangeNothing) {
  const auto decoder = make_ngram_decoder(Speculation{6});
  EXPECT_EQ(outputs(*decoder, 4, nullptr, 12), expected(12));
}

// The model was never taught what a mask is: its guesses are bad, and change nothing.
TEST_F(SmolLM2, VerifiedMasksChangeNothing) {
  Diffusion rule{4, {3.0, 0.02}};
  rule.mask_token = 5;
  const auto decoder = make_diffusion_decoder(rule, *target_->model);
  EXPECT_EQ(outputs(*decoder, 4, nullptr, 12), expected(12));
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
