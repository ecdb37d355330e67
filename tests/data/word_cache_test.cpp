#include "data/word_cache.h"

#include <gmock/gmock.h>

#include "common/threads.h"
#include "data/tokenizer.h"

namespace aerie {
namespace {

using ::testing::ElementsAre;

TEST(WordCache, KeepsWhatItWasGivenAndForgetsRatherThanGrow) {
  WordCache cache;
  Encoding found;
  EXPECT_FALSE(cache.append(" word", 7, found));
  cache.put(" word", {{5, 6}, {{0, 2}, {2, 5}}});
  EXPECT_TRUE(cache.append(" word", 7, found));
  EXPECT_THAT(found.ids, ElementsAre(5, 6));
  EXPECT_EQ(found.offsets[1], (std::array<uint32_t, 2>{9, 12}));
  // More words than there is room for, from several threads.
  parallel_for(0, 300'000, 1000, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      cache.put(std::to_string(i), {{static_cast<int32_t>(i)}, {{0, 1}}});
    }
  });
  int64_t kept = 0;
  for (int64_t i = 0; i < 300'000; ++i) {
    Encoding one;
    if (!cache.append(std::to_string(i), 0, one)) continue;
    ASSERT_EQ(one.ids[0], i);
    ++kept;
  }
  EXPECT_GT(kept, 50'000);
  EXPECT_LT(kept, 200'000);
}

}  // namespace
}  // namespace aerie
