// 10^5 operations at random: arrivals, steps, aborts, evictions, prefix hits, guesses right and
// wrong, chains and trees. Nothing leaks, nobody starves, no budget is overrun, and what comes out
// is what each request gives alone.
#include <gtest/gtest.h>

#include <map>

#include "tests/decoding/engine_helpers.h"

namespace aerie {
namespace {

using testing::FakeModel;

struct Live {
  Request request;
  std::vector<int32_t> output;
  int64_t last_progress = 0;
};

class Soak {
 public:
  explicit Soak(uint32_t seed, bool masks = false)
      : random_(seed),
        model_(masks ? testing::masked_model() : FakeModel()),
        decoder_(masks ? testing::random_diffusion(model_, random_, true)
                       : testing::random_decoder(model_, random_)) {
    limits_ = {static_cast<int64_t>(1 + random_() % 6), static_cast<int64_t>(4 + random_() % 40)};
    if (random_() % 2) limits_.logit_rows = 4 + random_() % 12;
    limits_.evict = random_() % 2;
    limits_.share_prefixes = random_() % 2;
    EngineOptions options{limits_, 6 + static_cast<int64_t>(random_() % 20),
                          testing::linear_cost(10, (random_() % 20) / 10.0)};
    engine_ = std::make_unique<Engine>(model_, *decoder_, options);
  }

  void run(int operations) {
    for (int i = 0; i < operations; ++i) {
      const uint32_t choice = random_() % 100;
      if (choice < 25 && engine_->waiting() < 8) {
        submit();
      } else if (choice < 27 && !live_.empty()) {
        abort();
      } else {
        step();
      }
    }
    while (!engine_->idle()) step();
    EXPECT_TRUE(live_.empty());
    EXPECT_EQ(engine_->pages().free(), engine_->pages().total());
  }
  int64_t finished() const { return finished_; }
  const EngineCounts& counts() const { return engine_->counts(); }

 private:
  void submit() {
    std::vector<int32_t> prompt(1 + random_() % 50);
    for (int32_t& token : prompt) token = static_cast<int32_t>(random_() % 3);
    // Half of them begin alike.
    if (random_() % 2) std::fill_n(prompt.begin(), prompt.size() * 3 / 4, 1);
    Request request = testing::request_of(std::move(prompt), 1 + random_() % 40);
    if (random_() % 3 == 0) request.stop_tokens = {5};
    if (random_() % 3 == 0) {
      request.sampling.temperature = 0.8;
      request.sampling.seed = random_();
    }
    const int64_t id = engine_->submit(request);
    live_[id] = {std::move(request), {}, steps_};
  }
  void abort() {
    auto victim = live_.begin();
    std::advance(victim, random_() % live_.size());
    ASSERT_TRUE(engine_->abort(victim->first));
    live_.erase(victim);
  }
  void step() {
    const EngineCounts before = engine_->counts();
    const bool idle = engine_->idle();
    const bool ran = engine_->step([this](const Sequence& sequence, std::span<const int32_t> out) {
      Live& live = live_.at(sequence.id);
      live.output.insert(live.output.end(), out.begin(), out.end());
      live.last_progress = steps_;
      if (sequence.finish == FinishReason::kRunning) return;
      ASSERT_EQ(live.output, testing::solo(model_, live.request));
      live_.erase(sequence.id);
      ++finished_;
    });
    ASSERT_EQ(ran, !idle) << "an empty step while somebody waits";
    ++steps_;
    engine_->check_invariants();
    ASSERT_LE(engine_->counts().rows - before.rows, limits_.row_budget);
    ASSERT_LE(engine_->counts().logit_rows - before.logit_rows, limits_.logit_rows);
    for (const auto& [id, live] : live_) {
      ASSERT_LT(steps_ - live.last_progress, 1500) << "request " << id << " starves";
    }
  }

  std::mt19937 random_;
  FakeModel model_;
  std::unique_ptr<Decoder> decoder_;
  SchedulerLimits limits_;
  std::unique_ptr<Engine> engine_;
  std::map<int64_t, Live> live_;
  int64_t steps_ = 0, finished_ = 0;
};

TEST(Engine, SurvivesAHundredThousandRandomOperations) {
  int64_t finished = 0, evictions = 0, shared = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Soak soak(seed);
    soak.run(2000);
    if (::testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
    finished += soak.finished();
    evictions += soak.counts().evictions;
    shared += soak.counts().shared_rows;
  }
  EXPECT_GT(finished, 4000);
  EXPECT_GT(evictions, 100);
  EXPECT_GT(shared, 1000);
}

TEST(Engine, SurvivesRandomOperationsWhileItDecodesByDiffusion) {
  int64_t finished = 0;
  for (uint32_t seed = 0; seed < 8; ++seed) {
    Soak soak(seed, true);
    soak.run(1000);
    if (::testing::Test::HasFatalFailure()) FAIL() << "seed " << seed;
    finished += soak.finished();
  }
  EXPECT_GT(finished, 400);
}

}  // namespace
}  // namespace aerie
