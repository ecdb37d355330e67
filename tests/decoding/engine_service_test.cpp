// The engine behind a thread: many callers, cancellations, a full house, the end.
#include "decoding/engine_service.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "decoding/autoregressive.h"
#include "decoding/speculative.h"
#include "tests/decoding/fake_drafter.h"
#include "tests/decoding/solo.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::error_of;
using testing::FakeDrafter;
using testing::FakeModel;
using ::testing::HasSubstr;
using testing::solo;

Request seeded_request(std::vector<int32_t> prompt, int64_t length, uint64_t seed = 0) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_new_tokens = length;
  request.sampling.temperature = seed == 0 ? 0 : 0.8;
  request.sampling.seed = seed;
  return request;
}

/// All that the outputs of one submission hold in the end.
std::vector<std::vector<int32_t>> collect(Generation& generation, size_t count) {
  std::vector<std::vector<int32_t>> outputs(count);
  for (size_t finished = 0; finished < count;) {
    for (const Delivery& delivery : generation.next(5)) {
      auto& out = outputs[delivery.index];
      out.insert(out.end(), delivery.tokens.begin(), delivery.tokens.end());
      finished += delivery.finish != FinishReason::kRunning;
    }
  }
  return outputs;
}

/// Forwards take a while: what is to be seen under way is not over before this thread runs again.
class SlowModel : public FakeModel {
 public:
  explicit SlowModel(std::chrono::microseconds pause) : FakeModel(50, 100000), pause_(pause) {}
  ForwardOutput forward(const ForwardInput& input) const override {
    std::this_thread::sleep_for(pause_);
    return FakeModel::forward(input);
  }

 private:
  std::chrono::microseconds pause_;
};

struct House {
  explicit House(int64_t max_requests = 64, int64_t max_sequences = 4,
                 std::chrono::microseconds pause = {})
      : model(pause),
        decoder(std::make_unique<FakeDrafter>(model, 0.6), {3}),
        engine(model, decoder, {{max_sequences, 32}, 200}),
        service(engine, metrics, max_requests) {}
  SlowModel model;
  SpeculativeDecoder decoder;
  Engine engine;
  ServerMetrics metrics{"fake"};
  EngineService service;
};

TEST(EngineService, ManyCallersAtOnceGetWhatTheyWouldGetAlone) {
  House house;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      std::mt19937 random(caller);
      for (int round = 0; round < 6; ++round) {
        std::vector<Request> requests;
        for (size_t i = 0; i < 1 + random() % 3; ++i) {
          const int32_t token = static_cast<int32_t>(random() % 50);
          requests.push_back(
              seeded_request(std::vector<int32_t>(1 + random() % 20, token), 12, random() % 5));
        }
        const auto generation = house.service.submit(requests);
        const auto outputs = collect(*generation, requests.size());
        for (size_t i = 0; i < requests.size(); ++i) {
          wrong += outputs[i] != solo(house.model, requests[i]);
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(house.service.drain(5));
}

TEST(EngineService, ACallerThatGoesAwayFreesItsPlaceAndItsPages) {
  House house(4, 4);
  for (int round = 0; round < 20; ++round) {
    auto generation = house.service.submit({seeded_request({1, 2}, 600), seeded_request({3}, 600)});
    if (round % 2) generation->next(1);
  }
  const std::vector<Request> requests(4, seeded_request({7}, 5));
  EXPECT_EQ(collect(*house.service.submit(requests), 4)[3], solo(house.model, requests[3]));
  EXPECT_TRUE(house.service.drain(5));
  EXPECT_THAT(house.metrics.render(), HasSubstr("finished_reason=\"abort\"} 40"));
}

TEST(EngineService, GuessesOfCancelledOutputsAreCountedAndTheirReasonToo) {
  House house;
  const auto count = [&](const std::string& name) {
    const std::string text = house.metrics.render();
    return std::stod(text.substr(text.find(name + "{model_name=\"fake\"") + name.size() + 20));
  };
  auto generation = house.service.submit({seeded_request({1, 2}, 600)});
  size_t seen = 0;
  while (seen < 40) {
    for (const Delivery& delivery : generation->next(5)) seen += delivery.tokens.size();
  }
  generation->cancel(0, FinishReason::kStop);
  generation.reset();
  collect(*house.service.submit({seeded_request({7}, 1)}), 1);  // after the cancellation
  EXPECT_THAT(house.metrics.render(), HasSubstr("finished_reason=\"stop\"} 1"));
  EXPECT_THAT(house.metrics.render(), ::testing::Not(HasSubstr("finished_reason=\"abort\"")));
  const double drafts = count("vllm:spec_decode_num_drafts_total");
  const double guesses = count("vllm:spec_decode_num_draft_tokens_total");
  const double accepted = count("vllm:spec_decode_num_accepted_tokens_total");
  EXPECT_GE(drafts, 10);  // 40 tokens, at most 4 a step
  EXPECT_GT(accepted, drafts / 2);
  EXPECT_GT(guesses, accepted);
  EXPECT_LE(guesses, 3 * drafts + 3);  // the last step's may not have been kept
}

TEST(EngineService, OneOfSeveralOutputsCanBeCancelled) {
  House house;
  const std::vector<Request> requests{seeded_request({1, 2}, 2000), seeded_request({3}, 20)};
  const auto generation = house.service.submit(requests);
  generation->cancel(0);
  std::vector<int32_t> tokens;
  for (bool finished = false; !finished;) {
    for (const Delivery& delivery : generation->next(5)) {
      ASSERT_EQ(delivery.index, 1u);
      tokens.insert(tokens.end(), delivery.tokens.begin(), delivery.tokens.end());
      finished = delivery.finish != FinishReason::kRunning;
    }
  }
  EXPECT_EQ(tokens, solo(house.model, requests[1]));
}

TEST(EngineService, MoreThanTheHouseHoldsAreRefusedAndTheOthersNotHarmed) {
  House house(3, 1, std::chrono::milliseconds(2));
  auto first = house.service.submit({seeded_request({1}, 300), seeded_request({2}, 300)});
  EXPECT_THROW(house.service.submit({seeded_request({1}, 5), seeded_request({2}, 5)}), BusyError);
  const auto second = house.service.submit({seeded_request({5}, 5)});
  EXPECT_THAT(error_of([&] { house.service.submit({seeded_request({1}, 5)}); }),
              HasSubstr("at most 3 may: try again later"));
  first.reset();
  EXPECT_EQ(collect(*second, 1)[0], solo(house.model, seeded_request({5}, 5)));
}

TEST(EngineService, ARequestThatCanNeverRunIsRefusedAloneWithTheEnginesWords) {
  House house;
  const auto running = house.service.submit({seeded_request({1, 2, 3}, 100)});
  EXPECT_THAT(error_of([&] {
                house.service.submit({seeded_request({4}, 5), seeded_request({}, 5)});
              }),
              HasSubstr("the prompt is empty"));
  Request all_stop = seeded_request({1}, 5);
  all_stop.sampling.min_tokens = 1;
  for (int64_t token = 0; token < 50; ++token) all_stop.stop_tokens.push_back(token);
  EXPECT_THAT(error_of([&] { house.service.submit({all_stop}); }), HasSubstr("whole vocabulary"));
  EXPECT_THAT(error_of([&] { house.service.submit({seeded_request({1}, 50000)}); }),
              HasSubstr("pages of the KV cache"));
  EXPECT_EQ(collect(*running, 1)[0], solo(house.model, seeded_request({1, 2, 3}, 100)));
}

TEST(EngineService, AClosedServiceFinishesWhatRunsAndTakesNothingNew) {
  House house(64, 4, std::chrono::milliseconds(1));
  auto running = house.service.submit({seeded_request({1, 2, 3}, 200)});
  house.service.close();
  EXPECT_THROW(house.service.submit({seeded_request({1}, 5)}), ClosedError);
  EXPECT_FALSE(house.service.drain(0));
  EXPECT_EQ(collect(*running, 1)[0].size(), 200u);
  running.reset();
  EXPECT_TRUE(house.service.drain(5));
  EXPECT_FALSE(house.service.broken());
  EXPECT_THAT(house.service.closed_because(), HasSubstr("shutting down"));
}

/// Fails in its third forward, as a broken kernel would.
class BreakingModel : public FakeModel {
 public:
  ForwardOutput forward(const ForwardInput& input) const override {
    AERIE_CHECK(forwards < 3, "a kernel broke");
    return FakeModel::forward(input);
  }
};

TEST(EngineService, WhenTheEngineBreaksEveryCallerIsTold) {
  const BreakingModel model;
  AutoregressiveDecoder decoder;
  Engine engine(model, decoder, {{4, 32}, 200});
  ServerMetrics metrics("fake");
  EngineService service(engine, metrics, 8);
  // On a busy machine the third forward may be over before this thread runs again: submit says so.
  EXPECT_THAT(error_of([&] {
                const auto generation =
                    service.submit({seeded_request({1}, 100), seeded_request({2}, 100)});
                collect(*generation, 2);
              }),
              HasSubstr("a kernel broke"));
  EXPECT_THROW(service.submit({seeded_request({1}, 5)}), ClosedError);
  EXPECT_THAT(service.closed_because(), HasSubstr("a kernel broke"));
  EXPECT_TRUE(service.broken());
}

TEST(EngineService, AnIdleServiceRunsNoForwards) {
  House house;
  collect(*house.service.submit({seeded_request({1}, 5)}), 1);
  ASSERT_TRUE(house.service.drain(5));
  const int64_t forwards = house.model.forwards;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(house.model.forwards, forwards);
}

TEST(ServerMetrics, CountsRequestsTokensAndTimes) {
  House house;
  collect(*house.service.submit({seeded_request({1, 2, 3}, 20), seeded_request({4}, 10)}), 2);
  ASSERT_TRUE(house.service.drain(5));
  const std::string text = house.metrics.render();
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_total{model_name=\"fake\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{model_name=\"fake\"} 30\n"));
  EXPECT_THAT(text, HasSubstr("finished_reason=\"length\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:time_to_first_token_seconds_count{model_name=\"fake\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:inter_token_latency_seconds_count{model_name=\"fake\"} 28\n"));
}

TEST(ServerMetrics, AHistogramCountsUpToEachBound) {
  Histogram histogram({1, 2});
  histogram.add(0.5);
  histogram.add(1);  // a bound belongs to its bucket
  histogram.add(1.5, 2);
  histogram.add(7);
  EXPECT_EQ(histogram.render("h", "a=\"b\""),
            "h_bucket{a=\"b\",le=\"1\"} 2\nh_bucket{a=\"b\",le=\"2\"} 4\n"
            "h_bucket{a=\"b\",le=\"+Inf\"} 5\nh_sum{a=\"b\"} 11.5\nh_count{a=\"b\"} 5\n");
}

}  // namespace
}  // namespace aerie
