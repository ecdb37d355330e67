// The engine on a target whose output reveals every mistake in bookkeeping.
#include "decoding/engine.h"

#include <gmock/gmock.h>

#include <random>

#include "common/error.h"
#include "decoding/autoregressive.h"
#include "decoding/speculative.h"
#include "tests/decoding/engine_helpers.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using testing::FakeDrafter;
using testing::FakeModel;
using ::testing::HasSubstr;
using testing::random_decoder;
using testing::random_options;
using testing::random_requests;
using testing::request_of;
using testing::solo;
using ::testing::ThrowsMessage;

TEST(Engine, EveryRequestGivesWhatItGivesAloneWhateverTheBudgetsArrivalsAndGuesses) {
  std::mt19937 random(20);
  for (int round = 0; round < 300; ++round) {
    const FakeModel model = testing::masked_model();
    const auto decoder = random_decoder(model, random);
    const std::vector<Request> requests = random_requests(random, 8, 60);
    Engine engine(model, *decoder, random_options(random, requests));
    std::map<int64_t, std::pair<size_t, std::vector<int32_t>>> outputs;
    size_t submitted = 0;
    const auto collect = [&](const Sequence& sequence, std::span<const int32_t> tokens) {
      auto& out = outputs[sequence.id].second;
      out.insert(out.end(), tokens.begin(), tokens.end());
    };
    while (submitted < requests.size() || !engine.idle()) {
      if (submitted < requests.size() && random() % 2) {
        outputs[engine.submit(requests[submitted])].first = submitted;
        ++submitted;
      }
      engine.step(collect);
      engine.check_invariants();
    }
    EXPECT_EQ(engine.pages().free(), engine.pages().total());
    for (const auto& [id, output] : outputs) {
      ASSERT_EQ(output.second, solo(model, requests[output.first])) << "round " << round;
    }
  }
}

TEST(Engine, NeverExceedsTheRowBudgetAndFillsItWhileAPromptWaits) {
  const FakeModel model;
  SpeculativeDecoder decoder(std::make_unique<FakeDrafter>(model, 0.5), Speculation{3});
  Engine engine(model, decoder, {{12, 24}, 400});
  std::mt19937 random(5);
  int64_t prompt_tokens = 0;
  for (int i = 0; i < 12; ++i) {
    const int64_t length = 20 + random() % 90;
    prompt_tokens += length;
    engine.submit(request_of(std::vector<int32_t>(length, 4), 200));
  }
  EngineCounts before;
  while (engine.step({})) {
    const int64_t rows = engine.counts().rows - before.rows;
    EXPECT_LE(rows, 24);
    if (before.prompt_rows < prompt_tokens && engine.counts().prompt_rows < prompt_tokens) {
      EXPECT_EQ(rows, 24);
    }
    before = engine.counts();
  }
  EXPECT_EQ(engine.counts().prompt_rows, prompt_tokens);
}

TEST(Engine, PlansTheSplitFuseTraceOfThePaper) {
  // The trace of the SplitFuse planner: budget 8; A and B decode; then C (10), D (3), E (6) arrive.
  const FakeModel model;
  AutoregressiveDecoder decoder;
  Engine engine(model, decoder, {{8, 8}, 100});
  std::string trace;
  const auto emit = [&](const Sequence& sequence, std::span<const int32_t>) {
    trace += static_cast<char>('A' + sequence.id);
  };
  engine.submit(request_of({1, 2}, 50));
  engine.submit(request_of({3, 4}, 50));
  engine.step({});
  engine.submit(request_of(std::vector<int32_t>(10, 5), 50));
  engine.submit(request_of(std::vector<int32_t>(3, 6), 50));
  engine.submit(request_of(std::vector<int32_t>(6, 7), 50));
  std::vector<int64_t> rows, prompt_rows;
  for (int step = 0; step < 4; ++step) {
    const EngineCounts before = engine.counts();
    engine.step(emit);
    trace += ' ';
    rows.push_back(engine.counts().rows - before.rows);
    prompt_rows.push_back(engine.counts().prompt_rows - before.prompt_rows);
  }
  EXPECT_EQ(trace, "AB ABC ABCD ABCDE ");
  EXPECT_THAT(rows, ElementsAre(8, 8, 8, 6));
  EXPECT_THAT(prompt_rows, ElementsAre(6, 6, 5, 2));
}

TEST(Engine, LogitsAreComputedForTheLastRowOfAPromptOnly) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  Engine engine(model, decoder, {{1, 10}, 10});
  engine.submit(request_of(std::vector<int32_t>(35, 2), 1));
  while (engine.step({})) {
  }
  EXPECT_EQ(engine.counts().forwards, 4);
  EXPECT_EQ(engine.counts().logit_rows, 1);
  EXPECT_EQ(engine.counts().rows, 35);
}

TEST(Engine, AcceptedGuessesAreThoseASimulationPredicts) {
  const FakeModel model;
  const Request request = request_of({9, 8, 7}, 200);
  const std::vector<int32_t> text = solo(model, request);
  for (const int64_t depth : {1, 3, 5}) {
    auto drafter = std::make_unique<FakeDrafter>(model, 0.6);
    // The drafter is right at a position or not: walk along the output.
    std::vector<int64_t> reached(depth), accepted(depth);
    int64_t forwards = 0;
    for (int64_t done = 1; done < 200;) {
      const int64_t guesses = std::min<int64_t>(depth, 200 - done - 1);
      int64_t held = 0;
      while (held < guesses && drafter->right_at(3 + done + held)) ++held;
      for (int64_t i = 0; i < std::min(guesses, held + 1); ++i) ++reached[i];
      for (int64_t i = 0; i < held; ++i) ++accepted[i];
      done += held + 1;
      ++forwards;
    }
    SpeculativeDecoder decoder(std::move(drafter), Speculation{depth});
    Engine engine(model, decoder, {{4, 64}, 64});
    const std::vector<Request> requests{request};
    const Completion completion = run_requests(engine, requests).at(0);
    EXPECT_EQ(completion.tokens, text);
    EXPECT_EQ(completion.stats.forwards, forwards);
    EXPECT_EQ(completion.stats.reached, reached);
    EXPECT_EQ(completion.stats.accepted, accepted);
    EXPECT_EQ(completion.stats.guessed.size(), text.size());
  }
}

TEST(Engine, AnAbortFreesThePagesAtOnceAndLeavesTheOthersAlone) {
  const FakeModel model;
  SpeculativeDecoder decoder(std::make_unique<FakeDrafter>(model, 0.7), Speculation{4});
  Engine engine(model, decoder, {{4, 16}, 64});
  const Request kept = request_of({5, 6, 7}, 40);
  const int64_t first = engine.submit(request_of(std::vector<int32_t>(60, 1), 40));
  const int64_t second = engine.submit(kept);
  const int64_t queued = engine.submit(request_of({1}, 10));
  std::vector<int32_t> tokens;
  const auto collect = [&](const Sequence& sequence, std::span<const int32_t> added) {
    if (sequence.id == second) tokens.insert(tokens.end(), added.begin(), added.end());
  };
  for (int i = 0; i < 3; ++i) engine.step(collect);
  EXPECT_TRUE(engine.abort(first));
  engine.check_invariants();
  EXPECT_FALSE(engine.abort(first));
  EXPECT_TRUE(engine.abort(queued));
  while (engine.step(collect)) engine.check_invariants();
  EXPECT_EQ(tokens, solo(model, kept));
  EXPECT_EQ(engine.pages().free(), engine.pages().total());
}

TEST(Engine, RefusesWhatCanNeverRun) {
  const FakeModel model(50, 64);
  AutoregressiveDecoder decoder;
  Engine engine(model, decoder, {{4, 16}, 3});
  const auto submitting = [&](std::vector<int32_t> prompt, int64_t count) {
    return [&engine, request = request_of(std::move(prompt), count)] { engine.submit(request); };
  };
  EXPECT_THAT(submitting({}, 4), ThrowsMessage<Error>(HasSubstr("the prompt is empty")));
  EXPECT_THAT(submitting(std::vector<int32_t>(64, 1), 4),
              ThrowsMessage<Error>(HasSubstr("64 tokens and the model's context holds 64")));
  EXPECT_THAT(submitting({50}, 4),
              ThrowsMessage<Error>(HasSubstr("outside the model's vocabulary")));
  EXPECT_THAT(submitting({1}, 0), ThrowsMessage<Error>(HasSubstr("max_new_tokens")));
  EXPECT_THAT(submitting(std::vector<int32_t>(40, 1), 9),
              ThrowsMessage<Error>(HasSubstr("needs 4 pages of the KV cache, which has 3")));
  EXPECT_TRUE(engine.idle());
}

TEST(Engine, TheContextEndsGenerationAsTheLimitDoes) {
  const FakeModel model(50, 40);
  AutoregressiveDecoder decoder;
  Engine engine(model, decoder, {{4, 16}, 3});
  const std::vector<Request> requests{request_of(std::vector<int32_t>(35, 1), 100)};
  const Completion completion = run_requests(engine, requests).at(0);
  EXPECT_EQ(completion.tokens.size(), 5u);
  EXPECT_EQ(completion.finish, FinishReason::kLength);
}

TEST(Engine, StreamsTakeTurnsWhenTheBudgetIsSmallerThanTheirNumber) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  Engine engine(model, decoder, {{6, 2}, 64});
  std::map<int64_t, int64_t> last, worst;
  int64_t step = 0;
  for (int i = 0; i < 6; ++i) engine.submit(request_of({i}, 30));
  const auto note = [&](const Sequence& sequence, std::span<const int32_t>) {
    if (last.count(sequence.id)) {
      worst[sequence.id] = std::max(worst[sequence.id], step - last[sequence.id]);
    }
    last[sequence.id] = step;
  };
  while (engine.step(note)) ++step;
  for (const auto& [id, gap] : worst) EXPECT_LE(gap, 3) << "stream " << id;
}

// A tree of two branches a level: the drafter's guess and a wrong one, to exercise masks and moves.
class TreeDecoder : public AutoregressiveDecoder {
 public:
  explicit TreeDecoder(const FakeModel& model) : model_(model) {}
  int64_t lookahead() const override { return 4; }
  std::vector<Chunk> propose(std::span<Sequence* const> sequences, RowBudget) override {
    std::vector<Chunk> chunks;
    for (const Sequence* sequence : sequences) {
      if (sequence->remaining() < 5) {
        chunks.push_back(known_chunk(*sequence, sequence->committed, 1));
        continue;
      }
      std::vector<int32_t> text = sequence->tokens;
      const int32_t first = model_.greedy_after(text);
      text.push_back(first);
      const int32_t second = model_.greedy_after(text);
      const int32_t position = static_cast<int32_t>(sequence->known()) - 1;
      Chunk chunk;
      chunk.tokens = {sequence->tokens.back(), (first + 1) % 50, first, (second + 1) % 50, second};
      chunk.parents = {-1, 0, 0, 1, 2};
      chunk.positions = {position, position + 1, position + 1, position + 2, position + 2};
      chunk.logit_rows = {0, 1, 2, 3, 4};
      chunks.push_back(std::move(chunk));
    }
    return chunks;
  }

 private:
  const FakeModel& model_;
};

TEST(Engine, ATreePathIsVerifiedUnderItsMask) {
  const FakeModel model;
  TreeDecoder decoder(model);
  Engine engine(model, decoder, {{2, 16}, 16});
  const Request request = request_of({4, 4, 2}, 8);
  std::vector<int32_t> tokens;
  std::vector<size_t> runs;
  engine.submit(request);
  const auto collect = [&](const Sequence&, std::span<const int32_t> added) {
    tokens.insert(tokens.end(), added.begin(), added.end());
    runs.push_back(added.size());
  };
  engine.step(collect);
  engine.step(collect);
  EXPECT_THAT(runs, ElementsAre(1, 3));
  const std::vector<int32_t> expected = solo(model, request);
  EXPECT_EQ(tokens, std::vector<int32_t>(expected.begin(), expected.begin() + 4));
}

}  // namespace
}  // namespace aerie
