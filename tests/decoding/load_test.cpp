// Load on a table's clock: every figure can be worked out by hand.
#include "decoding/load_report.h"

#include <gmock/gmock.h>

#include <cmath>
#include <tuple>

#include "decoding/autoregressive.h"
#include "decoding/speculative.h"
#include "decoding/table_model.h"
#include "tests/decoding/fake_drafter.h"
#include "tests/decoding/solo.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A forward takes 10 ms and 1 ms a row.
StepCost ten_and_one() { return StepCost({{1, 0.011}, {1001, 1.011}}, {{1, 0}}); }

Request request_of(int64_t prompt, int64_t output) {
  Request request;
  request.prompt.assign(prompt, 1);
  request.max_new_tokens = output;
  return request;
}

LoadTrace run(const LoadPlan& plan, int64_t max_sequences, int64_t row_budget) {
  const TableModel target(1000);
  AutoregressiveDecoder decoder;
  Engine engine(target, decoder, {{max_sequences, row_budget}, 500});
  TableClock clock(ten_and_one());
  return run_load(engine, plan, clock);
}

TEST(Load, TimesOfOneRequestAreThoseOfTheTable) {
  LoadPlan plan{{request_of(30, 3)}, {2.0}};
  const LoadTrace trace = run(plan, 4, 20);
  // Chunks of 20 and 10 rows: 30 + 20 ms; then two tokens of 11 ms.
  const RequestTrace& request = trace.requests[0];
  EXPECT_NEAR(request.first_token(), 0.050, 1e-9);
  EXPECT_THAT(request.token_times, ElementsAre(DoubleNear(2.050, 1e-9), DoubleNear(2.061, 1e-9),
                                               DoubleNear(2.072, 1e-9)));
  EXPECT_NEAR(request.slowest_stretch(), 0.011, 1e-9);
  EXPECT_NEAR(trace.seconds, 0.072, 1e-9);
  ASSERT_EQ(trace.steps.size(), 4u);
  EXPECT_EQ(trace.steps[0].prompt_rows, 20);
  EXPECT_EQ(trace.steps[2].rows, 1);
}

TEST(Load, WhatComesDuringAForwardWaitsForItsEndAndTheWaitCounts) {
  LoadPlan plan{{request_of(40, 1), request_of(10, 1)}, {0.0, 0.010}};
  const LoadTrace trace = run(plan, 4, 100);
  EXPECT_NEAR(trace.requests[0].first_token(), 0.050, 1e-9);
  EXPECT_NEAR(trace.requests[1].first_token(), 0.040 + 0.020, 1e-9);
}

TEST(Load, AClosedLoopKeepsItsNumberOfStreams) {
  LoadPlan plan;
  for (int i = 0; i < 12; ++i) plan.requests.push_back(request_of(5, 1 + i % 4));
  plan.streams = 3;
  const LoadTrace trace = run(plan, 8, 100);
  for (const StepTrace& step : trace.steps) EXPECT_LE(step.running + step.waiting, 3);
  for (const RequestTrace& request : trace.requests) EXPECT_FALSE(request.token_times.empty());
  EXPECT_NEAR(trace.requests[2].arrived, 0, 1e-12);
  EXPECT_GT(trace.requests[3].arrived, 0);
}

TEST(Load, TwoRunsOnATableAreTheSameToTheLastBit) {
  LoadPlan plan;
  for (int i = 0; i < 40; ++i) plan.requests.push_back(request_of(20 + 7 * (i % 9), 10 + i % 5));
  plan.arrivals = poisson_arrivals(40, 3.0, 5);
  const auto once = [&] {
    LoadRun result;
    result.policy = "splitfuse";
    result.rate = 3;
    result.trace = run(plan, 8, 32);
    summarise(result, {0.3, 0.03});
    LoadReport report;
    report.runs.push_back(std::move(result));
    return load_json(report).dump();
  };
  EXPECT_EQ(once(), once());
}

TEST(Load, ASmallRowBudgetShortensGapsAndALargeOneTheFirstToken) {
  LoadPlan plan;
  for (int i = 0; i < 30; ++i) plan.requests.push_back(request_of(200, 20));
  plan.arrivals = poisson_arrivals(30, 1.0, 8);
  const auto summary = [&](int64_t row_budget) {
    LoadRun result;
    result.trace = run(plan, 8, row_budget);
    summarise(result, {});
    return result;
  };
  const LoadRun small = summary(32), large = summary(256);
  EXPECT_LT(small.between_tokens.p99, large.between_tokens.p99);
  EXPECT_GT(small.first_token.p50, large.first_token.p50);
  EXPECT_EQ(small.tokens, 600);
  EXPECT_EQ(small.prompt_rows, 6000);
}

TEST(Load, TokensThatComeTogetherHaveNoTimeBetween) {
  const testing::FakeModel model;
  SpeculativeDecoder decoder(std::make_unique<testing::FakeDrafter>(model, 1.0), {3});
  Engine engine(model, decoder, {{2, 32}, 20});
  TableClock clock(ten_and_one());
  const LoadTrace trace = run_load(engine, {{request_of(4, 9)}, {0.0}}, clock);
  // The prompt's token, then 4 + 4.
  const std::vector<double>& times = trace.requests[0].token_times;
  ASSERT_EQ(times.size(), 9u);
  EXPECT_EQ(times[1], times[4]);
  EXPECT_LT(times[0], times[1]);
  EXPECT_LT(times[4], times[5]);
}

TEST(Load, PoissonArrivalsHaveTheRateAndTheLawOfTheirGaps) {
  const std::vector<double> times = poisson_arrivals(20001, 4.0, 3);
  EXPECT_EQ(times, poisson_arrivals(20001, 4.0, 3));
  EXPECT_NE(times, poisson_arrivals(20001, 4.0, 4));
  EXPECT_NEAR(times.back() / 20000, 0.25, 0.006);
  double longer = 0;  // P(gap > t) = exp(-4 t)
  for (size_t i = 1; i < times.size(); ++i) longer += times[i] - times[i - 1] > 0.5;
  EXPECT_NEAR(longer / 20000, std::exp(-2.0), 0.01);
  EXPECT_THAT(testing::error_of([] { poisson_arrivals(1, 0, 0); }), HasSubstr("rate of 0"));
}

TEST(Load, APolicyIsTheSameWhateverTheMachineDoesMeanwhile) {
  // The engine's own table must not learn from the time that the table's forwards really take.
  const TableModel target(1000);
  AutoregressiveDecoder decoder;
  EngineOptions options{{8, 512}, 500, ten_and_one()};
  options.limits.inter_token_seconds = 0.060;
  options.learn_cost = false;
  Engine engine(target, decoder, options);
  LoadPlan plan;
  for (int i = 0; i < 20; ++i) plan.requests.push_back(request_of(300, 20));
  plan.arrivals = poisson_arrivals(20, 2.0, 4);
  TableClock clock(ten_and_one());
  const LoadTrace trace = run_load(engine, plan, clock);
  EXPECT_EQ(engine.cost()->correction(), 1);
  for (const StepTrace& step : trace.steps) {
    if (step.rows == step.prompt_rows) continue;  // nobody waits for a token
    EXPECT_LE(step.end - step.begin, 0.060 + 1e-9);
  }
  EXPECT_GT(trace.steps.front().rows, 50);
}

TEST(Load, TheSlowestStretchIsThatOfSixteenGaps) {
  RequestTrace request;
  double now = 1;
  for (int i = 0; i < 60; ++i) request.token_times.push_back(now += i >= 30 && i < 38 ? 0.5 : 0.1);
  EXPECT_NEAR(request.slowest_stretch(), (8 * 0.5 + 8 * 0.1) / 16, 1e-9);
  request.token_times.resize(3);
  EXPECT_NEAR(request.slowest_stretch(), 0.1, 1e-9);
  request.token_times.resize(1);
  EXPECT_EQ(request.slowest_stretch(), 0);
}

TEST(Policies, SplitFuseKeepsGapsShortWherePrefillFirstDoesNot) {
  LoadPlan plan;
  for (int i = 0; i < 60; ++i) plan.requests.push_back(request_of(i % 3 == 0 ? 400 : 30, 20));
  plan.arrivals = poisson_arrivals(60, 3.0, 9);
  LoadReport report;
  for (const char* policy : {"prefill-first", "splitfuse", "static"}) {
    const TableModel target(1000);
    AutoregressiveDecoder decoder;
    EngineOptions options{{8, 512}, 500, ten_and_one()};
    options.limits.policy = parse_policy(policy);
    options.limits.inter_token_seconds = 0.060;
    options.learn_cost = false;
    Engine engine(target, decoder, options);
    TableClock clock(ten_and_one());
    LoadRun run;
    run.policy = policy;
    run.rate = 3;
    run.row_budget = 512;
    run.trace = run_load(engine, plan, clock);
    summarise(run, {4.0, 0.061});
    report.runs.push_back(std::move(run));
  }
  const auto [first, fused, fixed] = std::tie(report.runs[0], report.runs[1], report.runs[2]);
  EXPECT_FALSE(against_prefill_first(report, first).has_value());
  const Comparison beside = *against_prefill_first(report, fused);
  EXPECT_DOUBLE_EQ(beside.gaps, first.between_tokens.p99 / fused.between_tokens.p99);
  EXPECT_GT(beside.gaps, 5);
  EXPECT_GT(beside.goodput, 1);
  EXPECT_GT(first.between_tokens.p99, 0.400);
  EXPECT_LE(fused.between_tokens.p99, 0.061);
  // A batch that runs to its end makes the next one wait.
  EXPECT_GT(fixed.first_token.p50, first.first_token.p50);
  EXPECT_EQ(fixed.tokens, fused.tokens);
  const std::string html = load_html(report);
  EXPECT_THAT(html, HasSubstr("Against prefill-first"));
  EXPECT_THAT(html, HasSubstr("shorter"));
}

TEST(LoadReport, PercentilesLieBetweenTheirNeighbours) {
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 1), 4);
  EXPECT_DOUBLE_EQ(percentile({4, 1, 3, 2}, 0), 1);
  EXPECT_DOUBLE_EQ(percentile({}, 0.5), 0);
}

TEST(LoadReport, AnAnswerIsGoodIfBothOfItsTimesAre) {
  LoadRun result;
  result.trace.seconds = 10;
  result.trace.steps.push_back({0, 10, 5, 3, 1, 1, 0});
  result.trace.requests = {{0, 5, {0.5, 0.6, 0.7}},  // good
                           {0, 5, {2.0, 2.1, 2.2}},  // first token late
                           {0, 5, {0.5, 1.0, 1.5}},  // tokens slow
                           {1, 5, {1.9}}};           // good: one token has no gaps
  summarise(result, {1.0, 0.1000001});
  EXPECT_DOUBLE_EQ(result.good_share, 0.5);
  EXPECT_DOUBLE_EQ(result.goodput, 0.2);
  EXPECT_DOUBLE_EQ(result.tokens_per_second, 1.0);
  EXPECT_EQ(result.rejected_rows, 1);
  LoadReport report;
  report.runs.push_back(result);
  const std::string html = load_html(report);
  EXPECT_THAT(html, HasSubstr("50 %"));
  EXPECT_THAT(html, HasSubstr("</html>"));
  EXPECT_EQ(html.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace aerie
