// What a dry run says of memory, by the options that change it. That the total comes true is
// measured, not tested: README.md.
#include "trainer/memory_estimate.h"

#include <gmock/gmock.h>

#include "tests/trainer/tiny_draft.h"

namespace aerie {
namespace {

ModelConfig target() {
  ModelConfig target;
  target.layers = 4;
  target.hidden = 64;
  target.heads = 4;
  target.kv_heads = 2;
  target.head_dim = 16;
  target.intermediate = 128;
  target.vocab = 1000;
  return target;
}

DraftConfig draft() { return testing::tiny_draft(64, 1000, 200); }

RunConfig run() {
  RunConfig run;
  run.train.unroll = 3;
  run.train.depth_keep = 1;
  run.train.pack_tokens = 512;
  return run;
}

int64_t part(const RunConfig& config, const std::string& name) {
  for (const MemoryPart& part : estimate_memory(target(), draft(), config, {2, 0.5})) {
    if (part.name.find(name) != std::string::npos) return part.bytes;
  }
  return 0;
}

TEST(MemoryEstimate, CountsEveryParameterFourTimesInF32) {
  const int64_t fc = 3 * 64 * 64, head = 200 * 64, norms = 4 * 64;
  const int64_t attention = 2 * 64 * (4 + 2 + 2) * 8 + 4 * 8 * 64, mlp = 3 * 64 * 96;
  EXPECT_EQ(draft_parameters(draft()), fc + head + norms + attention + mlp);
  EXPECT_EQ(part(run(), "two moments"), 16 * draft_parameters(draft()));
}

TEST(MemoryEstimate, AnAverageOfTheWeightsIsOneMoreCopyInMemoryAndOnDisk) {
  RunConfig averaged = run();
  averaged.optim.ema = 0.99;
  EXPECT_EQ(part(run(), "average"), 0);
  EXPECT_EQ(part(averaged, "average"), 4 * draft_parameters(draft()));
  EXPECT_EQ(checkpoint_bytes(draft(), averaged.optim) - checkpoint_bytes(draft(), run().optim),
            4 * draft_parameters(draft()));
}

TEST(MemoryEstimate, DepthSamplingAndRecomputingShrinkTheUnroll) {
  RunConfig sampled = run(), recomputed = run();
  sampled.train.depth_keep = 0.5;
  recomputed.train.recompute = true;
  const int64_t all = part(run(), "unroll");
  EXPECT_EQ(part(sampled, "unroll"), all * (4 + 2 + 1) / 12);  // 1 + 1/2 + 1/4 of three depths
  EXPECT_GT(part(recomputed, "unroll"), all / 3);
  EXPECT_LT(part(recomputed, "unroll"), all / 2);
}

TEST(MemoryEstimate, TrainingOnStoredStatesHoldsEmbeddingAndHeadUnlessPromptsAreDecoded) {
  RunConfig offline = run();
  offline.hidden_states.mode = "offline";
  EXPECT_EQ(part(offline, "target: weights"),
            2 * (1000 * 64 + 800 * 64));  // 4 ids a draft's are seen
  EXPECT_EQ(part(offline, "one layer's"), 0);
  offline.data.heldout = "heldout.jsonl";
  EXPECT_EQ(part(offline, "target: weights"), part(run(), "target: weights"));
  offline.eval.prompts = 0;
  EXPECT_LT(part(offline, "target: weights"), part(run(), "target: weights"));
}

TEST(MemoryEstimate, GrowsLinearlyWithThePack) {
  RunConfig twice = run();
  twice.train.pack_tokens *= 2;
  for (const char* name : {"unroll", "hidden states", "one layer's"}) {
    EXPECT_EQ(part(twice, name), 2 * part(run(), name)) << name;
  }
}

}  // namespace
}  // namespace aerie
