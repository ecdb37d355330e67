// Diffusion in a window: the worked trace of WeDLM's loop step for step, which masks are filled,
// and that outputs are nobody else's business.
#include "decoding/diffusion.h"

#include <gmock/gmock.h>

#include "tests/decoding/engine_helpers.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;
using testing::FakeModel;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int32_t A = 10, B = 11, C = 12, D = 13, E = 14, X = 15, M = 49;

/// Says what it was told to, surely or not, and writes down what it was fed.
class ScriptedModel : public TargetModel {
 public:
  struct Word {
    int32_t token;
    bool sure;
  };
  using Step = std::map<int64_t, Word>;  // by the position of the mask
  struct Rows {
    std::vector<int64_t> tokens, positions, slots, logit_rows;
  };

  explicit ScriptedModel(std::vector<Step> steps) : steps_(std::move(steps)) {
    config_.layers = config_.heads = config_.kv_heads = 1;
    config_.hidden = 4;
    config_.head_dim = 16;
    config_.vocab = 50;
    config_.max_position = 100;
    embed_ = at::zeros({50, 4});
  }

  ForwardOutput forward(const ForwardInput& input) const override {
    const Step& step = steps_.at(fed.size());
    Rows rows{list(input.tokens), list(input.positions), list(input.layout.slots),
              list(input.logit_rows)};
    ForwardOutput output;
    output.hidden = at::zeros({input.tokens.size(0), 4});
    if (!rows.logit_rows.empty()) output.logits = at::zeros({input.logit_rows.size(0), 50});
    for (size_t r = 0; r < rows.logit_rows.size(); ++r) {
      const auto word = step.find(rows.positions[rows.logit_rows[r]]);
      if (word == step.end()) continue;
      output.logits.index_put_({static_cast<int64_t>(r), word->second.token},
                               word->second.sure ? 30.0 : 0.5);
    }
    fed.push_back(std::move(rows));
    return output;
  }

  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return embed_; }
  const ops::LinearWeight& head() const override { return head_; }
  Tensor head_rows(const Tensor& ids) const override { return embed_.index_select(0, ids); }
  at::ScalarType dtype() const override { return at::kFloat; }
  at::Device device() const override { return at::kCPU; }

  mutable std::vector<Rows> fed;

 private:
  static std::vector<int64_t> list(const Tensor& tensor) {
    if (!tensor.defined()) return {};
    const int64_t* data = tensor.const_data_ptr<int64_t>();
    return {data, data + tensor.numel()};
  }
  std::vector<Step> steps_;
  ModelConfig config_;
  Tensor embed_;
  ops::LinearWeight head_;
};

Diffusion rule_of(int64_t window, double entropy, bool exact, int64_t mask_token) {
  Diffusion rule{window, {entropy, 0.02}, exact};
  rule.mask_token = mask_token;
  return rule;
}

// decoding.md's trace: prompt of 10 tokens, window of 4.
TEST(Diffusion, FollowsTheTraceOfThePapersLoop) {
  const ScriptedModel model({{},
                             {{10, {A, true}}, {11, {B, true}}, {12, {X, false}}, {13, {D, true}}},
                             {{12, {C, true}}, {14, {E, true}}, {15, {X, false}}},
                             {}});
  DiffusionDecoder decoder(rule_of(4, 0.4, false, M));
  Engine engine(model, decoder, {{1, 64}, 4});
  engine.submit(testing::request_of(std::vector<int32_t>(10, 7), 40));
  std::vector<std::vector<int32_t>> emitted;
  for (int step = 0; step < 4; ++step) {
    emitted.emplace_back();
    engine.step([&](const Sequence&, std::span<const int32_t> tokens) {
      emitted.back().assign(tokens.begin(), tokens.end());
    });
    engine.check_invariants();
  }
  // 1: [M M M M]; nothing to commit; places 0, 1 and 3 are sure.
  EXPECT_THAT(model.fed[1].tokens, ElementsAre(M, M, M, M));
  EXPECT_THAT(model.fed[1].positions, ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(model.fed[1].slots, ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(model.fed[1].logit_rows, ElementsAre(0, 1, 2, 3));
  // 2: [A B M D M M]; A and B are committed; C and E are sure.
  EXPECT_THAT(model.fed[2].tokens, ElementsAre(A, B, D, M, M, M));
  EXPECT_THAT(model.fed[2].positions, ElementsAre(10, 11, 13, 12, 14, 15));
  EXPECT_THAT(model.fed[2].slots, ElementsAre(10, 11, 12, 13, 14, 15));
  EXPECT_THAT(model.fed[2].logit_rows, ElementsAre(3, 4, 5));
  // 3: [C D E M M M M]; D is computed again, behind C.
  EXPECT_THAT(model.fed[3].tokens, ElementsAre(C, D, E, M, M, M, M));
  EXPECT_THAT(model.fed[3].positions, ElementsAre(12, 13, 14, 15, 16, 17, 18));
  EXPECT_THAT(model.fed[3].slots, ElementsAre(12, 13, 14, 15, 16, 17, 18));
  EXPECT_THAT(model.fed[3].logit_rows, ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(emitted, ElementsAre(IsEmpty(), IsEmpty(), ElementsAre(A, B), ElementsAre(C, D, E)));
}

TEST(Diffusion, AStopCountsOnceItIsCommittedAndCutsWhatLiesBehind) {
  const ScriptedModel model({{}, {{3, {A, true}}, {4, {B, true}}, {5, {C, true}}}, {}});
  DiffusionDecoder decoder(rule_of(3, 0.4, false, M));
  Engine engine(model, decoder, {{1, 64}, 4});
  Request request = testing::request_of({1, 2, 3}, 40);
  request.stop_tokens = {B};
  const std::vector<Request> requests{request};
  const Completion completion = run_requests(engine, requests).at(0);
  EXPECT_THAT(completion.tokens, ElementsAre(A, B));
  EXPECT_EQ(completion.finish, FinishReason::kStop);
  EXPECT_EQ(model.fed.size(), 3u);  // the prompt, a step that fills, a step that commits
}

TEST(Diffusion, TheMaskItselfIsNeverChosen) {
  const ScriptedModel model({{}, {{1, {M, true}}}, {}, {}});
  DiffusionDecoder decoder(rule_of(1, 0, false, M));
  Engine engine(model, decoder, {{1, 64}, 4});
  const std::vector<Request> requests{testing::request_of({1}, 1)};
  EXPECT_NE(run_requests(engine, requests).at(0).tokens.at(0), M);
}

TEST(Diffusion, MasksAreFilledWhereEntropyAndDistanceAllowOrTheSurestIs) {
  const std::vector<int64_t> places{2, 3, 7};
  const auto chosen = [&](std::vector<float> entropies, double threshold, double penalty) {
    return choose_masks(places, entropies, {threshold, penalty});
  };
  EXPECT_THAT(chosen({0.1f, 0.2f, 0.3f}, 0.4, 0), ElementsAre(0, 1, 2));
  // 0.3 + 5 * 0.02 = 0.4 is not below 0.4.
  EXPECT_THAT(chosen({0.1f, 0.2f, 0.3f}, 0.39, 0.02), ElementsAre(0, 1));
  EXPECT_THAT(chosen({0.5f, 0.25f, 0.5f}, 0.25, 0), ElementsAre(1));
  // Nothing qualifies: 0.9, 0.7 + 0.1, 0.6 + 0.5.
  EXPECT_THAT(chosen({0.9f, 0.7f, 0.6f}, 0.4, 0.1), ElementsAre(1));
  EXPECT_THAT(chosen({0.5f, 0.5f, 0.5f}, 0, 0), ElementsAre(0));
  EXPECT_THAT(choose_masks({}, {}, {}), IsEmpty());
}

TEST(Diffusion, MasksThatAreRightGiveAWindowOfTokensAForward) {
  FakeModel model = testing::masked_model();
  model.mask_skill = 1;
  DiffusionDecoder decoder(rule_of(4, 100, true, model.mask_token));
  Engine engine(model, decoder, {{1, 64}, 20});
  const std::vector<Request> requests{testing::request_of({9, 8, 7}, 198)};
  const Completion completion = run_requests(engine, requests).at(0);
  EXPECT_EQ(completion.tokens, testing::solo(model, requests[0]));
  // The prompt gives a token; the first step gives one and fills three guesses; then three hold and
  // the target adds its own: 1 + 1 + 49 * 4.
  EXPECT_EQ(completion.stats.forwards, 50);
  EXPECT_EQ(completion.stats.reached, std::vector<int64_t>(3, 49));
  EXPECT_EQ(completion.stats.accepted, std::vector<int64_t>(3, 49));
}

TEST(Diffusion, WithoutAThresholdMasksDecideOneTokenAForward) {
  FakeModel model = testing::masked_model();
  model.mask_skill = 1;
  DiffusionDecoder decoder(rule_of(4, 0, false, model.mask_token));
  Engine engine(model, decoder, {{1, 64}, 20});
  Request request = testing::request_of({9, 8, 7}, 40);
  const std::vector<Request> requests{request};
  const Completion completion = run_requests(engine, requests).at(0);
  EXPECT_EQ(completion.tokens.size(), 40u);
  // One token a step, wherever it stands; the last one is committed a step later.
  EXPECT_EQ(completion.stats.forwards, 41);
}

TEST(Diffusion, UnverifiedOutputDependsOnNothingButTheRequest) {
  std::mt19937 random(31);
  int64_t evictions = 0;
  for (int round = 0; round < 150; ++round) {
    const FakeModel model = testing::masked_model();
    const std::vector<Request> requests = testing::random_requests(random, 8, 60);
    const uint32_t choice = random();
    const auto decoder = [&] {
      std::mt19937 same(choice);
      return testing::random_diffusion(model, same, false);
    };
    std::vector<std::vector<int32_t>> alone;
    for (const Request& request : requests) {
      const auto one = decoder();
      Engine engine(model, *one, {{1, 64}, 20});
      alone.push_back(run_requests(engine, std::span(&request, 1)).at(0).tokens);
    }
    const auto all = decoder();
    EngineOptions options = testing::random_options(random, requests);
    options.limits.row_budget += all->least_rows();
    options.limits.logit_rows = RowBudget::kUnlimited;
    Engine engine(model, *all, options);
    const std::vector<Completion> together = run_requests(engine, requests);
    engine.check_invariants();
    EXPECT_EQ(engine.pages().free(), engine.pages().total());
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_EQ(together[i].tokens, alone[i]) << "round " << round << ", request " << i;
    }
    evictions += engine.counts().evictions;
  }
  EXPECT_GT(evictions, 0);
}

TEST(Diffusion, SaysWhatItCannotDo) {
  const FakeModel model = testing::masked_model();
  EXPECT_THAT(testing::error_of([] { DiffusionDecoder decoder(rule_of(0, 0, true, 1)); }),
              HasSubstr("between 1 and 64 masks, not 0"));
  EXPECT_THAT(testing::error_of([] { DiffusionDecoder decoder(rule_of(4, 0, true, -1)); }),
              HasSubstr("needs a token for its masks"));
  DiffusionDecoder decoder(rule_of(8, 0, false, model.mask_token));
  EXPECT_THAT(testing::error_of([&] {
                Engine(model, decoder, {{1, 16}, 4});
              }),
              HasSubstr("needs 17 for a sequence"));
  Engine engine(model, decoder, {{1, 17}, 4});
  Request request = testing::request_of({1}, 4);
  request.sampling.logprobs = 0;
  engine.submit(request);
  engine.step({});
  EXPECT_THAT(testing::error_of([&] { engine.step({}); }), HasSubstr("no log probabilities"));
}

}  // namespace
}  // namespace aerie
