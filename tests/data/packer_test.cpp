// Packs hold every document once an epoch, never more than the budget, and resume exactly.
#include "data/packer.h"

#include <gmock/gmock.h>

#include <set>

#include "tests/testing.h"

namespace aerie {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::Scratch;

class PackerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ShardWriter writer(dir_ / "s", 1000);
    for (int32_t d = 0; d < kDocuments; ++d) {
      const std::vector<int32_t> ids(size_of(d), d);
      std::vector<uint8_t> assistant(ids.size(), 1);
      assistant[0] = 0;
      writer.add(ids, assistant, std::to_string(d));
    }
    writer.finish("key");
    shards_.emplace(dir_ / "s");
  }
  static size_t size_of(int64_t d) { return 2 + static_cast<size_t>(d * 37 % 61); }
  Packer packer(PackOptions options = {.budget = 100, .window = 64, .seed = 5}) {
    return Packer(*shards_, options);
  }

  static constexpr int32_t kDocuments = 300;
  Scratch dir_;
  std::optional<TokenShards> shards_;
};

TEST_F(PackerTest, AnEpochHoldsEveryDocumentOnceAndFillsItsPacks) {
  Packer packs = packer();
  std::vector<int64_t> first_order;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::multiset<int64_t> seen;
    std::vector<int64_t> order;
    const int64_t count = packs.packs_in_epoch(epoch);
    int64_t tokens = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Pack pack = packs.next();
      EXPECT_EQ(pack.epoch, epoch);
      const PackedTokens packed = packs.gather(pack);
      EXPECT_LE(packed.tokens.size(0), 100);
      tokens += packed.tokens.size(0);
      seen.insert(pack.documents.begin(), pack.documents.end());
      order.insert(order.end(), pack.documents.begin(), pack.documents.end());
    }
    EXPECT_EQ(seen.size(), 300u);
    EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), 300u);
    EXPECT_GT(static_cast<double>(tokens) / static_cast<double>(100 * count), 0.93);
    if (epoch == 0) first_order = order;
    if (epoch == 1) {
      EXPECT_NE(order, first_order);
    }
  }
}

TEST_F(PackerTest, TensorsOfAPack) {
  Packer packs = packer();
  const Pack pack = packs.next();
  const PackedTokens packed = packs.gather(pack);
  ASSERT_GT(pack.documents.size(), 1u);
  ASSERT_EQ(packed.q_start.size(0), static_cast<int64_t>(pack.documents.size()) + 1);
  int64_t longest = 0;
  for (size_t d = 0; d < pack.documents.size(); ++d) {
    const int64_t begin = packed.q_start[static_cast<int64_t>(d)].item<int>();
    const int64_t size = packed.q_start[static_cast<int64_t>(d) + 1].item<int>() - begin;
    EXPECT_EQ(size, static_cast<int64_t>(size_of(pack.documents[d])));
    EXPECT_TRUE(packed.tokens.narrow(0, begin, size).eq(pack.documents[d]).all().item<bool>());
    EXPECT_TRUE(packed.positions.narrow(0, begin, size).equal(at::arange(size)));
    EXPECT_FALSE(packed.loss_mask[begin].item<bool>());
    EXPECT_TRUE(packed.loss_mask.narrow(0, begin + 1, size - 1).all().item<bool>());
    longest = std::max(longest, size);
  }
  EXPECT_EQ(packed.max_len, longest);
}

TEST_F(PackerTest, ResumesExactlyFromAnyPlace) {
  Packer reference = packer();
  std::vector<std::vector<int64_t>> all;
  std::vector<std::string> cursors;
  for (int i = 0; i < 250; ++i) {
    cursors.push_back(reference.cursor());
    all.push_back(reference.next().documents);
  }
  for (const size_t at : {0ul, 1ul, 57ul, 99ul, 100ul, 101ul, 199ul, 249ul}) {
    Packer resumed = packer();
    resumed.seek(cursors[at]);
    EXPECT_EQ(resumed.cursor(), cursors[at]);
    for (size_t i = at; i < all.size(); ++i)
      ASSERT_EQ(resumed.next().documents, all[i]) << "from " << cursors[at];
  }
  EXPECT_LT(cursors.back().size(), 40u);
}

TEST_F(PackerTest, RanksShareThePacksAndTheCursor) {
  Packer one = packer();
  Packer first = packer({.budget = 100, .window = 64, .seed = 5, .rank = 0, .ranks = 2});
  Packer second = packer({.budget = 100, .window = 64, .seed = 5, .rank = 1, .ranks = 2});
  for (int i = 0; i < 150; ++i) {
    EXPECT_EQ(first.cursor(), second.cursor());
    EXPECT_EQ(one.next().documents, first.next().documents);
    EXPECT_EQ(one.next().documents, second.next().documents);
  }
  // And a run on two goes on with one.
  Packer alone = packer();
  alone.seek(first.cursor());
  EXPECT_EQ(alone.next().documents, one.next().documents);
}

TEST_F(PackerTest, RanksShareARoundOfAnySize) {
  // Rounds of four packs: three ranks take 0 and 3, 1, 2; afterwards all stand at the next round.
  Packer one = packer();
  std::vector<Packer> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.push_back(
        packer({.budget = 100, .window = 64, .seed = 5, .rank = rank, .ranks = 3, .round = 4}));
  }
  for (int round = 0; round < 60; ++round) {
    for (Packer& rank : ranks) EXPECT_EQ(rank.cursor(), one.cursor());
    for (int pack = 0; pack < 4; ++pack) {
      Packer& rank = ranks[static_cast<size_t>(pack % 3)];
      const Pack ahead = rank.peek();
      const Pack got = rank.next();
      EXPECT_EQ(ahead.documents, got.documents);
      EXPECT_EQ(got.documents, one.next().documents);
    }
  }
}

TEST_F(PackerTest, OtherDataOrOptionsRefuseTheCursor) {
  const std::string cursor = packer().cursor();
  Packer other = packer({.budget = 101, .window = 64, .seed = 5});
  EXPECT_THAT(error_of([&] { other.seek(cursor); }), HasSubstr("train.pack_tokens"));
  for (const char* bad : {"", "1", "1:2", "x:0:k", "0:-1:k"})
    EXPECT_THROW(other.seek(bad), Error) << bad;
  EXPECT_THAT(
      error_of([&] { other.seek("0:100000" + other.cursor().substr(other.cursor().rfind(':'))); }),
      HasSubstr("beyond"));
  EXPECT_THAT(error_of([&] { packer({.budget = 0}); }), HasSubstr("train.pack_tokens is 0"));
}

TEST_F(PackerTest, UnshuffledKeepsTheOrder) {
  Packer packs = packer({.budget = 100, .window = 64, .shuffle = false});
  int64_t next = 0;
  while (next < kDocuments)
    for (const int64_t document : packs.next().documents) EXPECT_EQ(document, next++);
}

TEST_F(PackerTest, DocumentsBeyondTheBudgetAreCutAndCounted) {
  Packer packs = packer({.budget = 40, .window = 64});
  int64_t longer = 0;
  for (int64_t d = 0; d < kDocuments; ++d) longer += size_of(d) > 40;
  EXPECT_EQ(packs.truncated(), longer);
  for (int i = 0; i < 100; ++i) EXPECT_LE(packs.gather(packs.next()).tokens.size(0), 40);
}

}  // namespace
}  // namespace aerie
