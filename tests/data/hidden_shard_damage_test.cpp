// A shard that was damaged, exchanged or lost is refused by name.
#include <gmock/gmock.h>

#include <fstream>
#include <random>

#include "tests/data/hidden_store_fixture.h"

namespace aerie {
namespace {

using namespace testing;
using ::testing::AnyOf;
using ::testing::HasSubstr;

class HiddenShardDamage : public ::testing::Test {
 protected:
  void SetUp() override { make_store(directory_, format_); }

  /// Opens the store and reads all of it. -> the error, if any
  std::string read_all(VerifyShards verify = VerifyShards::kNever) {
    return error_of([this, verify] {
      HiddenStore store = HiddenStore::open(directory_, test_facts(), format_, verify);
      for (int64_t d = 0; d < kTestDocuments; ++d) {
        const DocumentRows wanted{d, store.rows(d)};
        SCOPED_TRACE("wrong rows, and no error");
        expect_equal(store.read({&wanted, 1}), test_rows(d, format_));
      }
    });
  }
  std::string verify(const std::string& file) {
    for (const ShardEntry& entry : read_manifest(directory_).shards) {
      if (entry.file == file) return error_of([&] { verify_shard(directory_, entry); });
    }
    return "not in the manifest";
  }
  void flip(const fs::path& file, int64_t at, int bit) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at);
    const char byte = static_cast<char>(stream.get() ^ (1 << bit));
    stream.seekp(at);
    stream.put(byte);
  }

  Scratch scratch_;
  HiddenFormat format_ = test_format();
  fs::path directory_ = scratch_ / "store";
  fs::path shard_ = directory_ / "shard-00001.h5";
};

TEST_F(HiddenShardDamage, NoFlippedBitPassesForData) {
  ASSERT_EQ(read_all(), kNoError);
  std::mt19937_64 random(7);
  const auto size = static_cast<int64_t>(fs::file_size(shard_));
  int refused = 0;
  constexpr int kFlips = 60;
  for (int i = 0; i < kFlips; ++i) {
    // The beginning is HDF5's own bookkeeping, the rest mostly rows.
    const int64_t range = i % 3 == 0 ? 4096 : size;
    const auto at = static_cast<int64_t>(random() % static_cast<uint64_t>(range));
    const int bit = static_cast<int>(random() % 8);
    flip(shard_, at, bit);
    const std::string message = read_all();
    refused += message != kNoError;
    EXPECT_THAT(message, AnyOf(kNoError, HasSubstr("shard-00001.h5"))) << "byte " << at;
    EXPECT_THAT(verify("shard-00001.h5"), HasSubstr("its checksum is")) << "byte " << at;
    EXPECT_THAT(read_all(VerifyShards::kOnce), HasSubstr("shard-00001.h5")) << "byte " << at;
    flip(shard_, at, bit);
  }
  EXPECT_GT(refused, kFlips / 2);  // the others hit bytes that HDF5 does not use
  EXPECT_EQ(read_all(), kNoError);
  EXPECT_EQ(read_all(VerifyShards::kOnce), kNoError);
  EXPECT_EQ(verify("shard-00001.h5"), kNoError);
}

TEST_F(HiddenShardDamage, ATruncatedShardIsRefused) {
  fs::resize_file(shard_, fs::file_size(shard_) - 1);
  EXPECT_THAT(read_all(), HasSubstr("shard-00001.h5 is damaged: it has "));
  EXPECT_THAT(verify("shard-00001.h5"), HasSubstr("shard-00001.h5 is damaged: it has "));
}

TEST_F(HiddenShardDamage, AMissingShardIsRefusedAndWrittenAgain) {
  const auto before = contents(directory_);
  fs::remove(shard_);
  EXPECT_THAT(read_all(), HasSubstr("shard-00001.h5 is missing"));
  {
    HiddenStore store = HiddenStore::open_or_create(directory_, test_facts(), format_);
    EXPECT_LT(store.documents(), kTestDocuments);
    HiddenStoreWriter writer(store, small_shards());
    add_documents(writer, 0, kTestDocuments, format_);
    writer.publish();
  }
  EXPECT_EQ(contents(directory_), before);
  EXPECT_EQ(read_all(), kNoError);
}

TEST_F(HiddenShardDamage, AShardOfAnotherStoreIsRefusedWithTheFieldThatDiffers) {
  const fs::path other = scratch_ / "other";
  StoreFacts facts = test_facts();
  facts["target"] = "ff";
  {
    HiddenStore store = HiddenStore::open_or_create(other, facts, format_);
    HiddenStoreWriter writer(store, small_shards());
    add_documents(writer, 0, kTestDocuments, format_);
    writer.publish();
  }
  ASSERT_EQ(fs::file_size(other / "shard-00001.h5"), fs::file_size(shard_));
  fs::copy_file(other / "shard-00001.h5", shard_, fs::copy_options::overwrite_existing);
  EXPECT_THAT(read_all(), HasSubstr("shard-00001.h5"));
  EXPECT_THAT(read_all(), HasSubstr("target: the store has ff, this run a1"));
}

TEST_F(HiddenShardDamage, WhatIsNoHdf5FileIsRefused) {
  const auto size = fs::file_size(shard_);
  write_file_atomic(shard_, std::string(size, 'x'));
  EXPECT_THAT(read_all(), HasSubstr("shard-00001.h5 is damaged"));
}

}  // namespace
}  // namespace aerie
