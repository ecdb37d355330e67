// The table behind shared beginnings, against a map.
#include "decoding/prefix_cache.h"

#include <gmock/gmock.h>

#include <map>
#include <random>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::HasSubstr;
using PageText = std::array<int32_t, KvPool::kPageSize>;

PageText page_text(int32_t value) {
  PageText tokens;
  tokens.fill(value);
  return tokens;
}

TEST(PrefixCache, FindsWhatWasPublishedAndNothingElse) {
  PrefixCache cache(4);
  const PrefixCache::Entry* first = cache.insert(PrefixCache::kRoot, page_text(7), 2);
  EXPECT_EQ(cache.find(PrefixCache::kRoot, page_text(7)), first);
  EXPECT_EQ(cache.find(first->id, page_text(7)), nullptr) << "the same tokens behind another page";
  EXPECT_EQ(cache.find(PrefixCache::kRoot, page_text(8)), nullptr);
  EXPECT_TRUE(cache.contains(2));
  EXPECT_THAT(testing::error_of([&] { cache.insert(PrefixCache::kRoot, page_text(9), 2); }),
              HasSubstr("page 2 is published already"));
  EXPECT_THAT(testing::error_of([&] { cache.insert(PrefixCache::kRoot, page_text(7), 3); }),
              HasSubstr("page 3 is published with the tokens of page 2"));
  cache.erase(2);
  EXPECT_FALSE(cache.contains(2));
  EXPECT_EQ(cache.find(PrefixCache::kRoot, page_text(7)), nullptr);
}

TEST(PrefixCache, IsAMapUnderRandomOperations) {
  constexpr int32_t kPages = 32;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    PrefixCache cache(kPages);
    std::map<std::pair<int64_t, int32_t>, int32_t> known;  // (parent, token) -> page
    for (int i = 0; i < 2000; ++i) {
      const std::pair<int64_t, int32_t> key{random() % 5, static_cast<int32_t>(random() % 20)};
      const int32_t page = static_cast<int32_t>(random() % kPages);
      const auto at = std::find_if(known.begin(), known.end(),
                                   [&](const auto& each) { return each.second == page; });
      if (random() % 2 && at != known.end()) {
        cache.erase(page);
        known.erase(at);
      } else if (at == known.end() && !known.contains(key)) {
        EXPECT_EQ(cache.insert(key.first, page_text(key.second), page)->page, page);
        known[key] = page;
      }
      ASSERT_EQ(cache.size(), static_cast<int64_t>(known.size()));
      for (int64_t parent = 0; parent < 5; ++parent) {
        for (int32_t token = 0; token < 20; ++token) {
          const PrefixCache::Entry* entry = cache.find(parent, page_text(token));
          const auto expected = known.find({parent, token});
          ASSERT_EQ(entry == nullptr, expected == known.end()) << "seed " << seed << " step " << i;
          if (entry != nullptr) {
            ASSERT_EQ(entry->page, expected->second);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace aerie
