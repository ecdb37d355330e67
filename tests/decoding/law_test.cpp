// Sampled speculation leaves the target's law alone: for any guess, analytically and by counting.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "decoding/diffusion.h"
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
  std::vector<Guess> guess(std::span<Sequence* const> sequences,
                           std::span<const GuessShape> shapes) override {
    std::vector<Guess> guesses(sequences.size());
    for (size_t s = 0; s < sequences.size(); ++s) {
      const int64_t count =
          std::min<int64_t>(shapes[s].depth, static_cast<int64_t>(tokens_.size()));
      guesses[s].tokens.assign(tokens_.begin(), tokens_.begin() + count);
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

Law decoded_law(const FakeModel& model, const std::vector<int32_t>& prompt, int count,
                Decoder& decoder) {
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

Law speculated_law(const FakeModel& model, const std::vector<int32_t>& prompt, int count,
                   std::unique_ptr<Drafter> drafter, const Speculation& rule) {
  SpeculativeDecoder decoder(std::move(drafter), rule);
  return decoded_law(model, prompt, count, decoder);
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
  auto drafter = std::make_unique<ConstantDrafter>(std::vector<int32_t>{1, 2, 1});
  const Law chain = speculated_law(model, prompt, kDraws, std::move(drafter), Speculation{3});
  EXPECT_LT(total_variation(exact, chain), kBound);
}

/// Guesses two tokens, and two behind each of them, whatever was said.
class ConstantTree : public Drafter {
 public:
  void observe(std::span<const Observation>) override {}
  std::vector<Guess> guess(std::span<Sequence* const> sequences,
                           std::span<const GuessShape> shapes) override {
    std::vector<Guess> guesses(sequences.size());
    for (size_t s = 0; s < sequences.size(); ++s) {
      if (shapes[s].depth >= 1) guesses[s] = {{1, 2}, {-1, -1}, {}};
      if (shapes[s].depth < 2 || shapes[s].nodes < 6) continue;
      guesses[s] = {{1, 2, 0, 2, 3, 0}, {-1, -1, 0, 0, 1, 1}, {}};
    }
    return guesses;
  }
};

TEST(SampledLaw, ATreeGivesTheTargetsLaw) {
  const FakeModel model(4, 64, 2.0);
  const std::vector<int32_t> prompt{1, 3};
  const Law tree =
      speculated_law(model, prompt, kDraws, std::make_unique<ConstantTree>(), Speculation{2, 2, 6});
  EXPECT_LT(total_variation(exact_law(model, prompt), tree), kBound);
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

/// The wrong rule for trees: the children are tried one after the other, each with the chance that
/// the target gave it at first, without the renormalisation that a rejection asks for.
Law biased_tree_law(const FakeModel& model, const std::vector<int32_t>& prompt, int count) {
  Law law;
  for (int i = 0; i < count; ++i) {
    std::vector<int32_t> text = prompt, out;
    for (int depth = 0; depth < 3; ++depth) {
      const TokenLaw next = token_law(model.logits_after(text), warm(0));
      int32_t token = draw(next, counter_uniform(1000 + i, text.size()));
      for (const int32_t child : {1, 2}) {
        const double uniform = counter_uniform(5000000 + i, 10 * text.size() + child);
        if (uniform >= next.probabilities[child]) continue;
        token = child;
        break;
      }
      text.push_back(token);
      out.push_back(token);
    }
    law[out] += 1.0 / count;
  }
  return law;
}

TEST(SampledLaw, TheBoundCatchesABiasedTree) {
  const FakeModel model(4, 64, 2.0);
  const std::vector<int32_t> prompt{1, 3};
  EXPECT_GT(total_variation(exact_law(model, prompt), biased_tree_law(model, prompt, kDraws)),
            2 * kBound);
}

Law diffused_law(const FakeModel& model, const std::vector<int32_t>& prompt, bool exact) {
  Diffusion rule{3, {100, 0}};
  rule.exact = exact;
  rule.mask_token = model.mask_token;
  DiffusionDecoder decoder(rule);
  return decoded_law(model, prompt, kDraws, decoder);
}

TEST(SampledLaw, ExactDiffusionGivesTheTargetsLaw) {
  const FakeModel model = testing::masked_model(4, 2.0);
  const std::vector<int32_t> prompt{1, 3};
  EXPECT_LT(total_variation(exact_law(model, prompt), diffused_law(model, prompt, true)), kBound);
}

// Tokens that are filled together do not know each other: each is drawn from its own law, and their
// joint law is another one.
TEST(SampledLaw, TheBoundCatchesDiffusionWithoutVerification) {
  const FakeModel model = testing::masked_model(4, 2.0);
  const std::vector<int32_t> prompt{1, 3};
  EXPECT_GT(total_variation(exact_law(model, prompt), diffused_law(model, prompt, false)),
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
