// The engine and the EAGLE-3 drafter on tiny real networks: outputs equal to autoregressive ones,
// and accepted counts equal to what a simulation without cache or engine predicts.
#include <gtest/gtest.h>

#include <random>

#include "common/error.h"
#include "decoding/autoregressive.h"
#include "decoding/engine.h"
#include "tests/decoding/test_drafts.h"
#include "tests/decoding/tiny_runs.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::copier_draft;
using testing::outputs;
using testing::random_draft;
using testing::TestDraft;
using testing::tiny_requests;
using testing::tiny_target;

const std::vector<int64_t> kLayers{0, 1};

/// Each batch with the smallest and the largest number of rows, and one between.
const SchedulerLimits kBatches[] = {{1, 3}, {1, 512}, {4, 17}, {8, 3}, {8, 512}};

class TinyModel : public ::testing::TestWithParam<const char*> {};

TEST_P(TinyModel, OutputsDoNotDependOnDraftBatchOrBudget) {
  const auto target = tiny_target(GetParam());
  const TestDraft random = random_draft(*target, kLayers, 2, 5);
  const TestDraft copier = copier_draft(*target, kLayers, 1);
  for (const bool sampled : {false, true}) {
    const std::vector<Request> requests = tiny_requests(12, 3, sampled);
    AutoregressiveDecoder alone;
    const auto expected = outputs(*target, alone, requests, {1, 512});
    for (const SchedulerLimits& limits : kBatches) {
      std::vector<std::unique_ptr<Decoder>> decoders;
      decoders.push_back(std::make_unique<AutoregressiveDecoder>());
      decoders.push_back(random.decoder(*target, 4));
      decoders.push_back(copier.decoder(*target, 3));
      decoders.push_back(random.decoder(*target, Speculation{3, 3, 9}));
      decoders.push_back(copier.decoder(*target, Speculation{4, 2, 12}));
      for (size_t way = 0; way < decoders.size(); ++way) {
        EXPECT_EQ(outputs(*target, *decoders[way], requests, limits), expected)
            << "decoder " << way << ", " << limits.max_sequences << " sequences, "
            << limits.row_budget << " rows";
      }
    }
  }
}

TEST_P(TinyModel, NorOnEvictionsSharedBeginningsOrAdaptiveDepth) {
  const auto target = tiny_target(GetParam());
  const TestDraft copier = copier_draft(*target, kLayers, 1);
  std::vector<Request> requests = tiny_requests(14, 6, false);
  for (size_t i = 0; i < requests.size(); i += 2) {  // every second one begins alike
    requests[i].prompt.insert(requests[i].prompt.begin(), 40, 7);
    requests[i].max_new_tokens = std::min<int64_t>(requests[i].max_new_tokens, 30);
  }
  AutoregressiveDecoder alone;
  const auto expected = outputs(*target, alone, requests, {1, 512});
  std::mt19937 random(12);
  int64_t evictions = 0, shared = 0;
  for (int round = 0; round < 16; ++round) {
    Speculation rule{1 + static_cast<int64_t>(random() % 5)};
    if (random() % 2) rule = {rule.draft_tokens, 3, 1 + static_cast<int64_t>(random() % 14)};
    rule.adaptive = random() % 2;
    SchedulerLimits limits{1 + static_cast<int64_t>(random() % 8),
                           2 + static_cast<int64_t>(random() % 60)};
    limits.evict = true;
    limits.share_prefixes = random() % 4 != 0;
    if (random() % 2) limits.logit_rows = 1 + random() % 20;
    const int64_t pages = pages_for_requests(requests, 1) + static_cast<int64_t>(random() % 12);
    const double row = static_cast<double>(random() % 10) / 10;
    const auto decoder = copier.decoder(*target, rule);
    Engine engine(*target, *decoder,
                  {limits, pages, StepCost({{1, 10 + row}, {101, 10 + 101 * row}}, {{1, 0}})});
    const std::vector<Completion> completions = run_requests(engine, requests);
    engine.check_invariants();
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(completions[i].tokens, expected[i]) << "round " << round << ", request " << i;
    }
    evictions += engine.counts().evictions;
    shared += engine.counts().shared_rows;
  }
  EXPECT_GT(evictions, 0);
  EXPECT_GT(shared, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, TinyModel,
                         ::testing::Values("llama", "qwen3_tied", "qwen3_moe", "gemma3"));

// What the copier guesses after each token of a text, from one forward over all of it.
std::vector<int32_t> copies(const TargetModel& target, const TestDraft& draft,
                            const std::vector<int32_t>& text) {
  const ModelConfig& config = target.config();
  const int64_t length = static_cast<int64_t>(text.size());
  Sequence sequence;
  sequence.tokens = text;
  PageTable table(PageTable::pages_for(length));
  table.reserve(sequence, length);
  const std::vector<Sequence*> sequences{&sequence};
  const std::vector<Chunk> chunks{known_chunk(sequence, 0, length)};
  Batch batch = build_batch(sequences, chunks, target.device());
  KvPool pool = ops::make_kv_pool(config.layers, table.total(), config.kv_heads, config.head_dim,
                                  target.dtype(), target.device());
  batch.input.kv = &pool;
  batch.input.capture_layers = kLayers;
  const Eagle3Draft model = draft.make(target);
  const Tensor states = model.fuse(target.forward(batch.input).captured);
  const Tensor normed = ops::rms_norm(states, draft.params.at("norm.weight").to(target.dtype()),
                                      draft.config.rms_norm_eps);
  const Tensor best = model.logits(normed).argmax(1);
  const Tensor ids = draft.vocab.draft_to_target.index_select(0, best);
  const int64_t* data = ids.const_data_ptr<int64_t>();
  return {data, data + length};
}

TEST(KnownDraft, AcceptedCountsAreThoseASimulationPredicts) {
  const auto target = tiny_target("llama");
  const TestDraft draft = copier_draft(*target, kLayers, 1);
  constexpr int64_t kDepth = 3, kNew = 70;
  int64_t accepted_in_all = 0;
  for (int32_t seed = 0; seed < 6; ++seed) {
    Request request;
    for (int32_t i = 0; i < 20; ++i) request.prompt.push_back(5 + (i * (seed + 3)) % 7);
    request.max_new_tokens = kNew;
    const auto decoder = draft.decoder(*target, kDepth);
    Engine engine(*target, *decoder, {{1, 512}, 16});
    const std::vector<Request> requests{request};
    const Completion completion = run_requests(engine, requests).at(0);

    std::vector<int32_t> text = request.prompt;
    text.insert(text.end(), completion.tokens.begin(), completion.tokens.end());
    const std::vector<int32_t> copy = copies(*target, draft, text);
    std::vector<int64_t> reached(kDepth), accepted(kDepth);
    int64_t forwards = 0;
    for (int64_t known = 21; known < 20 + kNew; ++forwards) {
      const int64_t guesses = std::min(kDepth, 20 + kNew - known - 1);
      int64_t held = 0;
      // The newest state is that of the token before the last known one.
      while (held < guesses && text[known + held] == copy[known - 2]) ++held;
      for (int64_t i = 0; i < std::min(guesses, held + 1); ++i) ++reached[i];
      for (int64_t i = 0; i < held; ++i) ++accepted[i];
      known += held + 1;
    }
    EXPECT_EQ(completion.stats.forwards, forwards);
    EXPECT_EQ(completion.stats.reached, reached);
    EXPECT_EQ(completion.stats.accepted, accepted);
    accepted_in_all += accepted[0];
  }
  EXPECT_GT(accepted_in_all, 4) << "the copier never hits: the test shows nothing";
}

// The target's own next-but-one token as a draft's guess would make every guess hold; a draft that
// sees wrong states cannot. Here the states' alignment is checked through the draft's own cache: a
// prompt in one piece and in pieces gives the same guesses.
TEST(Drafter, GuessesDoNotDependOnHowThePromptWasCut) {
  const auto target = tiny_target("qwen3_tied");
  const TestDraft draft = random_draft(*target, kLayers, 1, 9);
  const std::vector<Request> requests = tiny_requests(6, 8, false);
  std::vector<std::vector<int64_t>> accepted;
  for (const int64_t budget : {512, 7, 24}) {
    const auto decoder = draft.decoder(*target, 4);
    Engine engine(*target, *decoder, {{budget == 512 ? 1 : 6, budget}, 200});
    std::vector<int64_t> counts;
    for (const Completion& completion : run_requests(engine, requests)) {
      int64_t sum = 0;
      for (const int64_t count : completion.stats.accepted) sum += count;
      // Fewer guesses fit a small budget: only a budget that has room for all is compared in full.
      if (budget != 7) counts.push_back(sum);
    }
    accepted.push_back(counts);
  }
  EXPECT_EQ(accepted[0].size(), requests.size());
  EXPECT_EQ(accepted[0], accepted[2]);
}

TEST(Drafter, StopsGuessingWhereItsContextEnds) {
  const auto target = tiny_target("llama");
  TestDraft draft = random_draft(*target, kLayers, 1, 4);
  draft.config.max_position = 30;
  std::vector<Request> requests(2);
  requests[0].prompt.assign(20, 7);
  requests[0].max_new_tokens = 40;
  requests[1].prompt.assign(45, 9);
  requests[1].max_new_tokens = 20;
  AutoregressiveDecoder alone;
  const auto expected = outputs(*target, alone, requests, {1, 512});
  EXPECT_EQ(outputs(*target, *draft.decoder(*target, 4), requests, {2, 512}), expected);
}

TEST(Drafter, RefusesAMapOfAnotherDraft) {
  const auto target = tiny_target("llama");
  TestDraft draft = random_draft(*target, kLayers, 1, 4);
  draft.vocab = testing::strided_vocab(target->config().vocab, 2);
  EXPECT_THROW(draft.decoder(*target, 4), Error);
}

// A tree holds the chain of its likeliest guesses: what a chain gets right, a tree with room gets
// right too, and more.
TEST(Drafter, ATreeAcceptsAtLeastWhatAChainDoes) {
  const auto target = tiny_target("llama");
  const TestDraft draft = copier_draft(*target, kLayers, 1);
  const std::vector<Request> requests = tiny_requests(10, 21, false);
  const auto forwards = [&](const Speculation& rule) {
    const auto decoder = draft.decoder(*target, rule);
    Engine engine(*target, *decoder, {{1, 512}, 16});
    run_requests(engine, requests);
    return engine.counts().forwards;
  };
  EXPECT_LT(forwards({3, 6, 60}), forwards({3}));
}

// A tree whose every branch is right somewhere: rows of the kept path are moved together in the
// real cache, and decoding goes on from there.
class RightSomewhere : public AutoregressiveDecoder {
 public:
  explicit RightSomewhere(std::vector<int32_t> text) : text_(std::move(text)) {}
  int64_t lookahead() const override { return 4; }
  std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget) override {
    const Sequence& sequence = *sequences[0];
    const int32_t known = static_cast<int32_t>(sequence.known());
    if (sequence.remaining() < 4) return {known_chunk(sequence, sequence.committed, 1)};
    const int32_t first = text_[known], second = text_[known + 1];
    Chunk chunk;
    chunk.tokens = {sequence.tokens.back(), (first + 1) % 96, first, (second + 1) % 96, second};
    chunk.parents = {-1, 0, 0, 2, 2};
    chunk.positions = {known - 1, known, known, known + 1, known + 1};
    chunk.logit_rows = {0, 1, 2, 3, 4};
    return {chunk};
  }

 private:
  std::vector<int32_t> text_;
};

TEST(Tree, TheKeptPathIsMovedTogetherAndDecodesOn) {
  const auto target = tiny_target("llama");
  std::vector<Request> requests(1);
  requests[0].prompt = {9, 8, 7, 6, 5};
  requests[0].max_new_tokens = 40;
  AutoregressiveDecoder alone;
  const auto expected = outputs(*target, alone, requests, {1, 512});
  std::vector<int32_t> text = requests[0].prompt;
  text.insert(text.end(), expected[0].begin(), expected[0].end());
  RightSomewhere decoder(text);
  Engine engine(*target, decoder, {{1, 512}, 8});
  const std::vector<Completion> completions = run_requests(engine, requests);
  EXPECT_EQ(completions[0].tokens, expected[0]);
  // Three tokens a forward as long as trees are fed.
  EXPECT_LT(engine.counts().forwards, 20);
}

}  // namespace
}  // namespace aerie
