// The whole chain against transformers, and in the engine: requests of every kind in one batch,
// with and without guesses, give what each gives alone.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "decoding/autoregressive.h"
#include "decoding/engine.h"
#include "decoding/logprobs.h"
#include "decoding/speculative.h"
#include "tests/decoding/fake_drafter.h"
#include "tests/decoding/solo.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using testing::FakeDrafter;
using testing::FakeModel;
using ::testing::HasSubstr;
using testing::solo;

nlohmann::json golden_cases() {
  return nlohmann::json::parse(read_file(testing::golden_dir() / "sampling.json"));
}

SamplingParams params_of(const nlohmann::json& one) {
  SamplingParams params;
  params.min_tokens = one["min_tokens"];
  if (one["bias"] != 0.0) params.logit_bias = {{one["bias_id"], one["bias"]}};
  params.repetition_penalty = one["repetition_penalty"];
  params.frequency_penalty = one["frequency_penalty"];
  params.presence_penalty = one["presence_penalty"];
  params.temperature = one["temperature"];
  params.top_k = one["top_k"];
  params.top_p = one["top_p"];
  params.min_p = one["min_p"];
  return params;
}

TEST(SamplingChain, LawIsThatOfTransformers) {
  for (const nlohmann::json& one : golden_cases()) {
    std::vector<float> logits = one["logits"];
    const std::vector<int32_t> prompt = one["prompt"], output = one["output"];
    const std::vector<int64_t> stops = one["stop_tokens"];
    const std::vector<double> expected = one["law"];
    change_logits(logits, params_of(one), {prompt, output, {}, stops});
    const TokenLaw law = token_law(logits, params_of(one));
    std::vector<double> probabilities(logits.size());
    for (size_t i = 0; i < law.ids.size(); ++i) {
      probabilities[law.ids[i]] = law.probabilities[i];
    }
    for (size_t id = 0; id < expected.size(); ++id) {
      ASSERT_NEAR(probabilities[id], expected[id], 2e-6) << one.dump();
    }
  }
}

TEST(SamplingChain, LogprobsAreThoseOfTheModelItself) {
  for (const nlohmann::json& one : golden_cases()) {
    const std::vector<float> logits = one["logits"], expected = one["logprobs"];
    const PlaceLogprobs place = place_logprobs(logits, 7, 4);
    EXPECT_NEAR(place.chosen.logprob, expected[7], 1e-5);
    std::vector<float> sorted = expected;
    std::sort(sorted.rbegin(), sorted.rend());
    ASSERT_EQ(place.top.size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(place.top[i].logprob, sorted[i], 1e-5);
      EXPECT_EQ(place.top[i].rank, static_cast<int64_t>(i) + 1);
    }
    EXPECT_EQ(sorted[place.chosen.rank - 1], expected[7]);
  }
}

TEST(SamplingChain, OfEqualLogitsTheLowerIdComesFirst) {
  const PlaceLogprobs place = place_logprobs(std::vector<float>{1, 2, 2, 0}, 2, 2);
  EXPECT_EQ(place.top[0].id, 1);
  EXPECT_EQ(place.top[1].id, 2);
  EXPECT_EQ(place.chosen.rank, 2);
  EXPECT_TRUE(place_logprobs(std::vector<float>{1, 2}, 0, 0).top.empty());
}

Request random_request(std::mt19937& random) {
  Request request;
  request.prompt.resize(1 + random() % 40);
  for (int32_t& token : request.prompt) token = static_cast<int32_t>(random() % 50);
  request.max_new_tokens = 1 + random() % 30;
  if (random() % 2) request.stop_tokens = {3, 17, 31};
  SamplingParams& params = request.sampling;
  const auto maybe = [&](auto& value, double to) {
    if (random() % 2) value = to;
  };
  maybe(params.temperature, 0.8);
  maybe(params.top_p, 0.9);
  maybe(params.top_k, 20);
  maybe(params.min_p, 0.05);
  maybe(params.repetition_penalty, 1.3);
  maybe(params.frequency_penalty, 0.7);
  maybe(params.presence_penalty, -0.4);
  maybe(params.min_tokens, 12);
  if (random() % 2) params.logit_bias = {{3, 2.0f}, {9, -4.0f}};
  params.logprobs = static_cast<int64_t>(random() % 4) - 1;
  params.seed = random();
  return request;
}

TEST(SamplingChain, DifferentParametersInOneBatchGiveWhatEachGivesAloneAlsoWithGuesses) {
  std::mt19937 random(4);
  for (int round = 0; round < 30; ++round) {
    const FakeModel model;
    std::unique_ptr<Decoder> decoder = std::make_unique<AutoregressiveDecoder>();
    if (round % 3) {
      auto drafter = std::make_unique<FakeDrafter>(model, (round % 5) / 4.0);
      decoder =
          std::make_unique<SpeculativeDecoder>(std::move(drafter), Speculation{1 + round % 4});
    }
    std::vector<Request> requests;
    for (int i = 0; i < 8; ++i) requests.push_back(random_request(random));
    Engine engine(model, *decoder, {{6, 24}, pages_for_requests(requests, 6)});
    const std::vector<Completion> done = run_requests(engine, requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(done[i].tokens, solo(model, requests[i])) << "round " << round << " request " << i;
    }
  }
}

TEST(SamplingChain, LogprobsOfAnOutputAreThoseOfEachOfItsPlacesAlsoWithGuesses) {
  const FakeModel model;
  SpeculativeDecoder decoder(std::make_unique<FakeDrafter>(model, 0.7), {3});
  Engine engine(model, decoder, {{2, 24}, 16});
  Request request;
  request.prompt = {4, 5, 6};
  request.max_new_tokens = 40;
  request.sampling.logprobs = 2;
  std::vector<PlaceLogprobs> places;
  engine.submit(request);
  while (engine.step(
      [&](const Sequence& sequence, std::span<const int32_t>) { places = sequence.logprobs; })) {
  }
  std::vector<int32_t> text = request.prompt;
  ASSERT_EQ(places.size(), 40u);
  for (const PlaceLogprobs& place : places) {
    const PlaceLogprobs expected = place_logprobs(model.logits_after(text), place.chosen.id, 2);
    EXPECT_EQ(place.chosen.logprob, expected.chosen.logprob);
    EXPECT_EQ(place.chosen.rank, 1);  // greedy
    EXPECT_EQ(place.top[1].id, expected.top[1].id);
    text.push_back(place.chosen.id);
  }
}

TEST(SamplingChain, MinTokensCountsNewTokensAndNoStopTokenComesBefore) {
  std::mt19937 random(6);
  for (int i = 0; i < 50; ++i) {
    const FakeModel model(8);
    Request request;
    request.prompt = {static_cast<int32_t>(i % 8), 1, 2};
    request.max_new_tokens = 60;
    request.stop_tokens = {3, 4};
    request.sampling.min_tokens = i % 7;
    AutoregressiveDecoder decoder;
    Engine engine(model, decoder, {{1, 8}, 8});
    const std::vector<Request> requests{request};
    const std::vector<int32_t> tokens = run_requests(engine, requests)[0].tokens;
    const auto stop = std::find_if(tokens.begin(), tokens.end(),
                                   [](int32_t token) { return token == 3 || token == 4; });
    EXPECT_GE(stop - tokens.begin(), request.sampling.min_tokens);
  }
}

TEST(SamplingChain, ParametersOutOfRangeAreRefusedByName) {
  const auto error = [](auto change) {
    SamplingParams params;
    change(params);
    return error_of([&] { check_sampling(params, 50); });
  };
  EXPECT_THAT(error([](auto& p) { p.temperature = -1; }), HasSubstr("temperature"));
  EXPECT_THAT(error([](auto& p) { p.temperature = std::nan(""); }), HasSubstr("temperature"));
  EXPECT_THAT(error([](auto& p) { p.top_p = 0; }), HasSubstr("top_p"));
  EXPECT_THAT(error([](auto& p) { p.min_p = 1.5; }), HasSubstr("min_p"));
  EXPECT_THAT(error([](auto& p) { p.presence_penalty = 3; }), HasSubstr("presence_penalty"));
  EXPECT_THAT(error([](auto& p) { p.repetition_penalty = 0; }), HasSubstr("repetition_penalty"));
  EXPECT_THAT(error([](auto& p) {
                p.logit_bias = {{50, 1.0f}};
              }),
              HasSubstr("logit_bias names token 50, the vocabulary has 50"));
  EXPECT_EQ(error([](auto&) {}), testing::kNoError);
}

}  // namespace
}  // namespace aerie
