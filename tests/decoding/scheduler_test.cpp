// The four budgets, the policies, and who loses its pages: on a fake target, step by step.
#include "decoding/scheduler.h"

#include <gmock/gmock.h>

#include <map>

#include "tests/decoding/engine_helpers.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using testing::FakeDrafter;
using testing::FakeModel;
using ::testing::HasSubstr;
using testing::linear_cost;
using testing::request_of;
using testing::solo;

/// Runs an engine step by step and notes what each step did.
struct Recorder {
  Engine& engine;
  std::map<int64_t, std::vector<int32_t>> outputs = {};
  std::string emitters = {};  // A, B... of the last step, by id

  bool step() {
    emitters.clear();
    return engine.step([this](const Sequence& sequence, std::span<const int32_t> tokens) {
      auto& out = outputs[sequence.id];
      out.insert(out.end(), tokens.begin(), tokens.end());
      emitters += static_cast<char>('A' + sequence.id);
    });
  }
};

std::unique_ptr<Decoder> chain(const FakeModel& model, double skill, int64_t depth) {
  return std::make_unique<SpeculativeDecoder>(std::make_unique<FakeDrafter>(model, skill),
                                              Speculation{depth});
}

TEST(Budgets, GuessesTakeTheRowsThatAPromptWouldHaveHad) {
  // The trace of the planner with one guess for A and B: A 2, B 2, C 4 in the first step.
  const FakeModel model;
  const auto decoder = chain(model, 1.0, 1);
  SchedulerLimits limits{8, 8};
  limits.prompt_share = 0;
  Engine engine(model, *decoder, {limits, 100});
  Recorder recorder{engine};
  engine.submit(request_of({1, 2}, 50));
  engine.submit(request_of({3, 4}, 50));
  recorder.step();
  // A page is what a waiting prompt is sure of; with 8 rows that is all of them.
  engine.submit(request_of(std::vector<int32_t>(10, 5), 50));
  const EngineCounts before = engine.counts();
  recorder.step();
  EXPECT_EQ(engine.counts().rows - before.rows, 8);
  EXPECT_EQ(engine.counts().prompt_rows - before.prompt_rows, 6);
  SchedulerLimits wide{8, 24};
  wide.prompt_share = 0;
  const auto other = chain(model, 1.0, 1);
  Engine roomy(model, *other, {wide, 100});
  roomy.submit(request_of({1, 2}, 50));
  roomy.submit(request_of({3, 4}, 50));
  roomy.step({});
  roomy.submit(request_of(std::vector<int32_t>(60, 5), 50));
  const EngineCounts first = roomy.counts();
  roomy.step({});
  EXPECT_EQ(roomy.counts().rows - first.rows, 24);
  EXPECT_EQ(roomy.counts().prompt_rows - first.prompt_rows, 20);
}

TEST(Budgets, RowsWithLogitsAreCounted) {
  const FakeModel model;
  for (const int64_t most : {1, 3, 5, 9}) {
    const auto decoder = chain(model, 0.7, 4);
    SchedulerLimits limits{6, 40};
    limits.logit_rows = most;
    Engine engine(model, *decoder, {limits, 100});
    std::vector<Request> requests;
    for (int32_t i = 0; i < 9; ++i) {
      requests.push_back(request_of(std::vector<int32_t>(5 + 7 * i, i), 20));
    }
    for (const Request& request : requests) engine.submit(request);
    Recorder recorder{engine};
    for (int64_t before = 0; recorder.step(); before = engine.counts().logit_rows) {
      EXPECT_LE(engine.counts().logit_rows - before, most);
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(recorder.outputs[static_cast<int64_t>(i)], solo(model, requests[i]));
    }
  }
}

TEST(Budgets, TheDraftModelsRowsAreCountedBesideTheTargets) {
  const FakeModel model;
  const auto decoder = chain(model, 1.0, 4);
  SchedulerLimits limits{4, 64};
  limits.draft_rows = 8;  // two guesses for each of four
  Engine engine(model, *decoder, {limits, 100});
  for (int32_t i = 0; i < 4; ++i) engine.submit(request_of({i}, 31));
  engine.step({});
  const EngineCounts before = engine.counts();
  engine.step({});
  EXPECT_EQ(engine.counts().rows - before.rows, 4 + 8);
}

TEST(Budgets, AnInterTokenTargetBoundsAStepOnlyWhileSequencesDecode) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits{4, 200};
  limits.inter_token_seconds = 50;
  // 10 + 1 a row + 1 a row of logits: one decoding sequence leaves 39 rows.
  Engine engine(model, decoder, {limits, 100, linear_cost(10, 1)});
  engine.submit(request_of(std::vector<int32_t>(150, 3), 40));
  EngineCounts before = engine.counts();
  engine.step({});
  EXPECT_EQ(engine.counts().rows - before.rows, 150) << "nobody waits for a token";
  engine.submit(request_of(std::vector<int32_t>(150, 4), 40));
  before = engine.counts();
  engine.step({});
  EXPECT_LT(engine.counts().rows - before.rows, 60);
  EXPECT_GE(engine.counts().rows - before.rows, 16);
}

TEST(Budgets, AnInterTokenTargetWithoutATableIsRefused) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits;
  limits.inter_token_seconds = 1;
  EXPECT_THAT(testing::error_of([&] {
                Engine(model, decoder, {limits, 10});
              }),
              HasSubstr("needs the costs of forwards"));
}

TEST(Prompts, AShortOneSlipsPastALongOne) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  const auto steps_until_b = [&](int64_t long_prompts) {
    SchedulerLimits limits{8, 64};
    limits.long_prompts = long_prompts;
    Engine engine(model, decoder, {limits, 200});
    engine.submit(request_of(std::vector<int32_t>(600, 1), 5));
    engine.submit(request_of(std::vector<int32_t>(20, 2), 5));
    Recorder recorder{engine};
    int steps = 1;
    while (recorder.step() && recorder.emitters.find('B') == std::string::npos) ++steps;
    return steps;
  };
  EXPECT_EQ(steps_until_b(2), 1);
  EXPECT_EQ(steps_until_b(1), 10);
}

TEST(Policies, AreNamed) {
  EXPECT_EQ(parse_policy("splitfuse"), Policy::kSplitFuse);
  EXPECT_EQ(parse_policy("prefill-first"), Policy::kPrefillFirst);
  EXPECT_EQ(parse_policy("static"), Policy::kStatic);
  EXPECT_THAT(testing::error_of([] { parse_policy("fifo"); }),
              HasSubstr("the policy is \"fifo\": known are splitfuse, prefill-first and static"));
}

TEST(Policies, PrefillFirstStopsDecodingForWholePrompts) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits{4, 32};
  limits.policy = Policy::kPrefillFirst;
  Engine engine(model, decoder, {limits, 100});
  Recorder recorder{engine};
  engine.submit(request_of({1, 2}, 10));
  recorder.step();
  engine.submit(request_of(std::vector<int32_t>(100, 5), 10));
  recorder.step();
  EXPECT_EQ(recorder.emitters, "B") << "A waits for the whole prompt of B";
  recorder.step();
  EXPECT_EQ(recorder.emitters, "AB");
}

TEST(Policies, StaticLetsABatchInWhenTheOneBeforeIsDone) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits{2, 512};
  limits.policy = Policy::kStatic;
  Engine engine(model, decoder, {limits, 100});
  Recorder recorder{engine};
  engine.submit(request_of({1}, 2));
  engine.submit(request_of({2}, 6));
  engine.submit(request_of({3}, 2));
  std::string trace;
  while (recorder.step()) trace += recorder.emitters + ' ';
  EXPECT_EQ(trace, "AB AB B B B B C C ");
}

TEST(Evictions, OutputsAreTheSameWithAnyPoolFromTheLeastToAmple) {
  const FakeModel model;
  // Short prompts and long outputs: all are let in, then they grow into each other.
  std::vector<Request> requests;
  for (int32_t i = 0; i < 10; ++i) {
    requests.push_back(request_of(std::vector<int32_t>(3 + i, i), 70 + 3 * i));
  }
  int64_t evictions = 0;
  const int64_t least = pages_for_requests(requests, 1);
  for (int64_t pages = least; pages <= least + 24; pages += 2) {
    const auto decoder = chain(model, 0.6, 3);
    SchedulerLimits limits{6, 40};
    limits.evict = true;
    limits.max_evictions = 2;
    Engine engine(model, *decoder, {limits, pages});
    Recorder recorder{engine};
    for (const Request& request : requests) engine.submit(request);
    while (recorder.step()) engine.check_invariants();
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(recorder.outputs[static_cast<int64_t>(i)], solo(model, requests[i]))
          << "request " << i << ", " << pages << " pages";
    }
    EXPECT_EQ(engine.pages().free(), engine.pages().total());
    EXPECT_LE(engine.counts().evictions, 2 * 10);
    evictions += engine.counts().evictions;
  }
  EXPECT_GT(evictions, 10) << "the pools were too large to show anything";
}

TEST(Evictions, NobodyLosesPagesThatWerePromised) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits{8, 64};
  Engine engine(model, decoder, {limits, 9});
  for (int32_t i = 0; i < 6; ++i) engine.submit(request_of(std::vector<int32_t>(20, i), 20));
  while (engine.step({})) EXPECT_LE(engine.running(), 3);
  EXPECT_EQ(engine.counts().evictions, 0);
}

TEST(Prefixes, ASecondRequestFindsTheFirstOnesPages) {
  const FakeModel model;
  for (const bool drafted : {false, true}) {
    AutoregressiveDecoder plain;
    const auto drafting = chain(model, 0.8, 3);
    Decoder& decoder = drafted ? *drafting : plain;
    SchedulerLimits limits{4, 64};
    limits.share_prefixes = true;
    Engine engine(model, decoder, {limits, 64});
    std::vector<int32_t> text(70);
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int32_t>(i * 7 % 50);
    Recorder recorder{engine};
    const Request first = request_of(text, 10);
    engine.submit(first);
    while (recorder.step()) engine.check_invariants();
    EXPECT_EQ(engine.counts().shared_rows, 0);
    text.resize(60);  // three pages and 12 tokens of the first one's four
    text.push_back(49);
    const Request second = request_of(text, 10);
    const EngineCounts before = engine.counts();
    engine.submit(second);
    while (recorder.step()) engine.check_invariants();
    // A draft's rows know the token after them: its last page is made anew.
    EXPECT_EQ(engine.counts().shared_rows, drafted ? 32 : 48);
    EXPECT_EQ(engine.counts().prompt_rows - before.prompt_rows, 61 - (drafted ? 32 : 48));
    EXPECT_EQ(recorder.outputs[0], solo(model, first));
    EXPECT_EQ(recorder.outputs[1], solo(model, second));
    EXPECT_EQ(engine.pages().free(), engine.pages().total());
  }
}

TEST(Prefixes, OutputsArePublishedToo) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits{4, 64};
  limits.share_prefixes = true;
  Engine engine(model, decoder, {limits, 64});
  Recorder recorder{engine};
  const Request first = request_of({1, 2, 3}, 40);
  engine.submit(first);
  while (recorder.step()) {
  }
  std::vector<int32_t> turn = first.prompt;
  turn.insert(turn.end(), recorder.outputs[0].begin(), recorder.outputs[0].end());
  turn.push_back(9);
  const Request second = request_of(turn, 5);
  engine.submit(second);
  while (recorder.step()) {
  }
  EXPECT_EQ(engine.counts().shared_rows, 32);
  EXPECT_EQ(recorder.outputs[1], solo(model, second));
}

TEST(Prefixes, OldPagesMakeRoomAndAreForgotten) {
  const FakeModel model;
  AutoregressiveDecoder decoder;
  SchedulerLimits limits{2, 64};
  limits.share_prefixes = true;
  Engine engine(model, decoder, {limits, 8});
  Recorder recorder{engine};
  std::vector<Request> requests;
  for (int32_t i = 0; i < 12; ++i) {
    requests.push_back(request_of(std::vector<int32_t>(50, i % 5), 10));
    engine.submit(requests.back());
  }
  while (recorder.step()) engine.check_invariants();
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(recorder.outputs[static_cast<int64_t>(i)], solo(model, requests[i]));
  }
  EXPECT_LE(engine.pages().published(), 8);
}

}  // namespace
}  // namespace aerie
