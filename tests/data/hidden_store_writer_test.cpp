// A store is the same bytes whatever happened to the process that wrote it.
#include "data/hidden_store_writer.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>

#include "common/error.h"
#include "tests/data/hidden_store_fixture.h"

namespace aerie {
namespace {

using namespace testing;
using ::testing::HasSubstr;

class HiddenStoreWriterTest : public ::testing::Test {
 protected:
  /// Writes what is missing in a process of its own. -> it
  pid_t start_writing(const fs::path& directory, const std::function<void()>& prepare = {}) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    try {
      if (prepare) prepare();
      make_store(directory, format_);
    } catch (const std::exception& error) {
      write_file_atomic(scratch_ / "message", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  static int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  Scratch scratch_;
  HiddenFormat format_ = test_format();
  fs::path whole_ = scratch_ / "whole", broken_ = scratch_ / "broken";
};

TEST_F(HiddenStoreWriterTest, EqualDocumentsGiveEqualBytes) {
  make_store(whole_, format_);
  make_store(broken_, format_);
  EXPECT_EQ(contents(whole_), contents(broken_));
}

TEST_F(HiddenStoreWriterTest, GoesOnWhereAnotherEnded) {
  for (const char* compression : {"none", "deflate"}) {
    for (const bool int8 : {false, true}) {
      fs::remove_all(whole_);
      fs::remove_all(broken_);
      format_.compression = compression;
      format_.int8 = int8;
      make_store(whole_, format_);
      for (const int64_t end : {3, 5, 19, 20}) {
        HiddenStore store = HiddenStore::open_or_create(broken_, test_facts(), format_);
        HiddenStoreWriter writer(store, small_shards());
        add_documents(writer, 0, end, format_);  // and no publish()
      }
      HiddenStore store = HiddenStore::open_or_create(broken_, test_facts(), format_);
      HiddenStoreWriter writer(store, small_shards());
      EXPECT_GT(writer.recovered(), 0);
      add_documents(writer, 0, kTestDocuments, format_);
      writer.publish();
      EXPECT_EQ(contents(whole_), contents(broken_)) << compression << (int8 ? " int8" : "");
    }
  }
}

TEST_F(HiddenStoreWriterTest, SurvivesSigkillAtAnyMoment) {
  ASSERT_EQ(wait_for(start_writing(whole_)), 0);
  std::mt19937 random(11);
  int killed = 0, attempt = 0;
  for (; attempt < 100; ++attempt) {
    const pid_t child = start_writing(broken_);
    ::usleep(1000 + random() % 3000 + 2000 * static_cast<unsigned>(attempt));
    ::kill(child, SIGKILL);
    const int code = wait_for(child);
    if (code == 0) break;
    ASSERT_EQ(code, -SIGKILL) << read_file(scratch_ / "message");
    ++killed;
  }
  EXPECT_GT(killed, 0);
  ASSERT_EQ(wait_for(start_writing(broken_)), 0);
  EXPECT_EQ(contents(whole_), contents(broken_));
}

TEST_F(HiddenStoreWriterTest, AFullDiskLeavesWhatIsThereAndSaysWhatIsMissing) {
  ASSERT_EQ(wait_for(start_writing(whole_)), 0);
  // Shards of at most 4 MB: the first does not fit.
  const auto small_disk = [] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4 << 20, 4 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  };
  ASSERT_EQ(wait_for(start_writing(broken_, small_disk)), 1);
  const std::string message = read_file(scratch_ / "message");
  EXPECT_THAT(message, HasSubstr("shard-00000.h5.tmp: File too large"));
  EXPECT_THAT(message, HasSubstr("What was written before is intact"));
  EXPECT_THAT(message, HasSubstr("bytes are still to be written"));
  HiddenStore store = HiddenStore::open_or_create(broken_, test_facts(), format_);
  {
    HiddenStoreWriter writer(store, small_shards());
    EXPECT_GT(writer.recovered(), 3);
    add_documents(writer, 0, kTestDocuments, format_);
    writer.publish();
  }
  EXPECT_EQ(contents(whole_), contents(broken_));
}

TEST_F(HiddenStoreWriterTest, AFailedWriterStaysFailed) {
  HiddenStore store = HiddenStore::open_or_create(whole_, test_facts(), format_);
  HiddenStoreWriter writer(store, small_shards());
  HiddenRows rows = test_rows(0, format_);
  writer.add(0, {rows.tokens, rows.loss_mask, rows.positions, rows.last, rows.last});
  EXPECT_THROW(writer.publish(), Error);
  writer.add(1, test_rows(1, format_));
  EXPECT_THROW(writer.publish(), Error);
  EXPECT_TRUE(read_manifest(whole_).shards.empty());
}

TEST_F(HiddenStoreWriterTest, TwoLivingWritersOfOnePartAreRefused) {
  HiddenStore store = HiddenStore::open_or_create(whole_, test_facts(), format_);
  HiddenStoreWriter writer(store, small_shards());
  writer.add(0, test_rows(0, format_));
  while (!fs::exists(whole_ / "shard-00000.h5.journal")) ::usleep(1000);
  try {
    HiddenStore again = HiddenStore::open_or_create(whole_, test_facts(), format_);
    HiddenStoreWriter second(again, small_shards());
    FAIL() << "two processes write the same shard";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("another process is writing this part"));
  }
}

TEST_F(HiddenStoreWriterTest, PartsWriteDisjointShardsOfOneStore) {
  for (int part = 0; part < 3; ++part) {
    HiddenStore store = HiddenStore::open_or_create(whole_, test_facts(), format_);
    StoreWriterOptions options = small_shards();
    options.shard_bytes = 2 << 20;
    options.part = part;
    options.parts = 3;
    HiddenStoreWriter writer(store, options);
    for (int64_t d = part; d < kTestDocuments; d += 3) writer.add(d, test_rows(d, format_));
    writer.publish();
    for (const ShardEntry& shard : store.shards()) EXPECT_GT(shard.rows, 0);
  }
  HiddenStore store = HiddenStore::open(whole_, test_facts(), format_);
  EXPECT_EQ(store.documents(), kTestDocuments);
  EXPECT_TRUE(fs::exists(whole_ / "shard-00002.h5"));
  EXPECT_TRUE(fs::exists(whole_ / "shard-00005.h5"));
}

}  // namespace
}  // namespace aerie
