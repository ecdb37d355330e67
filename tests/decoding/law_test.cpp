// Sampled speculation leaves the target's law alone: for any guess, analytically and by counting.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "decoding/engine.h"
#include "decoding/speculative.h"
#include "decoding/verify.h"
#include "tests/decoding/fake_model.h"

namespace aerie {
namespace {

using testing::FakeModel;

SamplingParams warm(uint64_t seed) {
  SamplingParams params;
  params.temperature = 0.9;
  params.seed = seed;
  return params;
}

/// Always proposes the same tokens, whatever was said.
class ConstantDrafter : public Drafter {
 public:
  explicit ConstantDrafter(std::vector<int32_t> tokens) : tokens_(std::move(tokens)) {}
  void observe(std::span<const Observation>) override {}
  std::vector<std::vector<int32_t>> guess(std::span<Sequence* const> sequences,
                                          std::span<const int64_t> depths) override {
    std::vector<std::vector<int32_t>> guesses;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int64_t count = std::min<int64_t>(depths[s], static_cast<int64_t>(tokens_.size()));
      guesses.emplace_back(tokens_.begin(), tokens_.begin() + count);
    }
    return guesses;
  }

 private:
  std::vector<int32_t> tokens_;
};

using Law = std::map<std::vector<int32_t>, double>;

/// The law of three tokens after the prompt, by multiplying out the target's own law.
Law exact_law(const FakeModel& model, const std::vector<int32_t>& prompt) {
  Law law{{{}, 1.0}};
  for (int depth = 0; depth < 3; ++depth) {
    Law longer;
    for (const auto& [tokens, probability] : law) {
      std::vector<int32_t> text = prompt;
      text.insert(text.end(), tokens.begin(), tokens.end());
      const TokenLaw next = token_law(model.logits_after(text), warm(0));
      for (size_t i = 0; i < next.ids.size(); ++i) {
        std::vector<int32_t> key = tokens;
        key.push_back(next.ids[i]);
        longer[key] += probability * next.probabilities[i];
      }
    }
    law = std::move(longer);
  }
  return law;
}

double total_variation(const Law& a, const Law& b) {
  double distance = 0;
  for (const auto& [key, probability] : a) {
    const auto other = b.find(key);
    distance += std::abs(probability - (other == b.end() ? 0.0 : other->second));
  }
  for (const auto& [key, probability] : b) distance += a.count(key) ? 0.0 : probability;
  return distance / 2;
}

Law speculated_law(const FakeModel& model, const std::vector<int32_t>& prompt, int count) {
  ChainDecoder decoder(std::make_unique<ConstantDrafter>(std::vector<int32_t>{1, 2, 1}), 3);
  Engine engine(model, decoder, {{64, 512}, 64});
  std::vector<Request> requests(count);
  for (int i = 0; i < count; ++i) {
    requests[i].prompt = prompt;
    requests[i].max_new_tokens = 3;
    requests[i].sampling = warm(1000 + i);
  }
  Law law;
  for (const Completion& completion : run_requests(engine, requests)) {
    law[completion.tokens] += 1.0 / count;
  }
  return law;
}

// With K cells and n draws the expected distance is below sqrt(K / n) / 2; it exceeds that by t
// with probability at most exp(-2 n t^2) (bounded differences).
constexpr int kCells = 64, kDraws = 20000;
const double kBound = std::sqrt(static_cast<double>(kCells) / kDraws) / 2 + 0.025;

TEST(SampledLaw, SpeculationGivesTheTargetsLaw) {
  const FakeModel model(4, 64, 2.0);
  const std::vector<int32_t> prompt{1, 3};
  const Law exact = exact_law(model, prompt);
  ASSERT_EQ(exact.size(), static_cast<size_t>(kCells));
  EXPECT_LT(total_variation(exact, speculated_law(model, prompt, kDraws)), kBound);
}

/// The wrong rule that the bound must catch: a guess is taken whenever it is likely, p > 0.15.
Law biased_law(const FakeModel& model, const std::vector<int32_t>& prompt, int count) {
  const std::vector<int32_t> guesses{1, 2, 1};
  Law law;
  for (int i = 0; i < count; ++i) {
    std::vector<int32_t> text = prompt, out;
    for (const int32_t guess : guesses) {
      const TokenLaw next = token_law(model.logits_after(text), warm(0));
      const int32_t drawn = draw(next, counter_uniform(1000 + i, text.size()));
      const int32_t token = next.probabilities[guess] > 0.15 ? guess : drawn;
      text.push_back(token);
      out.push_back(token);
    }
    law[out] += 1.0 / count;
  }
  return law;
}

TEST(SampledLaw, TheBoundCatchesABiasedRule) {
  const FakeModel model(4, 64, 2.0);
  const std::vector<int32_t> prompt{1, 3};
  EXPECT_GT(total_variation(exact_law(model, prompt), biased_law(model, prompt, kDraws)),
            2 * kBound);
}

TEST(SampledLaw, AcceptingWithProbabilityPAndElseResamplingIsTheSameLaw) {
  // Analytic: P(emit x) = p(x) [accepted], P(emit y) = (1 - p(x)) * p(y) / (1 - p(x)) = p(y). The
  // rule of verify(), "draw y from p and compare", must split the unit interval just so: the share
  // of uniforms for which the guess is kept is p(guess).
  const FakeModel model(4, 64, 2.0);
  const TokenLaw law = token_law(model.logits_after({2, 2, 1}), warm(0));
  Chunk chunk;
  chunk.tokens = {1, 2};
  chunk.positions = {2, 3};
  chunk.logit_rows = {0, 1};
  constexpr int kGrid = 100000;
  std::vector<double> emitted(4);
  double kept = 0;
  for (int i = 0; i < kGrid; ++i) {
    const int32_t drawn = draw(law, (i + 0.5) / kGrid);
    const Verdict verdict = verify(chunk, std::vector<int32_t>{drawn, 0});
    emitted[verdict.emit[0]] += 1.0 / kGrid;
    kept += verdict.keep.size() == 2 ? 1.0 / kGrid : 0;
  }
  for (int token = 0; token < 4; ++token) {
    EXPECT_NEAR(emitted[token], law.probabilities[token], 2e-5);
  }
  EXPECT_NEAR(kept, law.probabilities[2], 2e-5);
}

}  // namespace
}  // namespace aerie
