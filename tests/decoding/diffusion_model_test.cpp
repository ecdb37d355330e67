// Diffusion on tiny real networks that were never taught what a mask is.
#include <gtest/gtest.h>

#include "decoding/autoregressive.h"
#include "decoding/diffusion.h"
#include "tests/decoding/tiny_runs.h"

namespace aerie {
namespace {

using testing::outputs;
using testing::tiny_requests;
using testing::tiny_target;

class TinyDiffusion : public ::testing::TestWithParam<const char*> {};

DiffusionDecoder diffusion(int64_t window, double entropy, bool exact) {
  Diffusion rule{window, {entropy, 0.02}, exact};
  rule.mask_token = 1;
  return DiffusionDecoder(rule);
}

TEST_P(TinyDiffusion, OutputsAreTheAutoregressiveOnesWhereMasksAreVerified) {
  const auto target = tiny_target(GetParam());
  for (const bool sampled : {false, true}) {
    const std::vector<Request> requests = tiny_requests(12, 3, sampled);
    AutoregressiveDecoder alone;
    const auto expected = outputs(*target, alone, requests, {1, 512});
    for (const double entropy : {0.0, 4.0, 100.0}) {
      for (const int64_t concurrency : {1, 8}) {
        DiffusionDecoder decoder = diffusion(4, entropy, true);
        EXPECT_EQ(outputs(*target, decoder, requests, {concurrency, 512}), expected);
        DiffusionDecoder narrow = diffusion(6, entropy, true);
        EXPECT_EQ(outputs(*target, narrow, requests, {concurrency, 7}), expected);
      }
    }
  }
}

// What masks decide by themselves is another text, but the same one in every batch.
TEST_P(TinyDiffusion, UnverifiedMasksDecideTheSameInEveryBatch) {
  const auto target = tiny_target(GetParam());
  for (const bool sampled : {false, true}) {
    const std::vector<Request> requests = tiny_requests(12, 3, sampled);
    DiffusionDecoder alone = diffusion(4, 4.0, false);
    const auto expected = outputs(*target, alone, requests, {1, 512});
    for (const int64_t budget : {9, 31, 512}) {
      DiffusionDecoder decoder = diffusion(4, 4.0, false);
      EXPECT_EQ(outputs(*target, decoder, requests, {8, budget}), expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TinyDiffusion,
                         ::testing::Values("llama", "qwen3_tied", "qwen3_moe", "gemma3"));

}  // namespace
}  // namespace aerie
