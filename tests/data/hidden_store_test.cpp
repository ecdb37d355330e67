// What goes into a hidden-state store comes out of it, in any order, and nothing else does.
#include "data/hidden_store.h"

#include <gmock/gmock.h>

#include "tests/data/hidden_store_fixture.h"

namespace aerie {
namespace {

using namespace testing;
using ::testing::HasSubstr;

class HiddenStoreTest : public ::testing::Test {
 protected:
  Scratch scratch_;
  HiddenFormat format_ = test_format();
  fs::path directory_ = scratch_ / "store";
  HiddenStore reopen() { return HiddenStore::open(directory_, test_facts(), format_); }
};

TEST_F(HiddenStoreTest, GivesEveryDocumentBackInAnyOrder) {
  for (const char* compression : {"none", "deflate"}) {
    format_.compression = compression;
    directory_ = scratch_ / compression;
    make_store(directory_, format_);
    HiddenStore store = reopen();
    EXPECT_EQ(store.documents(), kTestDocuments);
    EXPECT_GE(store.shards().size(), 3u);
    for (int64_t i = 0; i < kTestDocuments; ++i) {
      const int64_t d = i * 17 % kTestDocuments;
      const HiddenRows rows = test_rows(d, format_);
      const DocumentRows wanted{d, rows.size()};
      expect_equal(store.read({&wanted, 1}), rows);
    }
  }
}

TEST_F(HiddenStoreTest, ReadsAPackOfBeginningsSideBySide) {
  HiddenStore store = make_store(directory_, format_);
  const std::vector<DocumentRows> pack{{30, 50}, {2, 174}, {11, 1}};
  const HiddenRows rows = store.read(pack);
  int64_t begin = 0;
  for (const DocumentRows& document : pack) {
    expect_equal(rows.slice(begin, document.rows),
                 test_rows(document.document, format_).slice(0, document.rows));
    begin += document.rows;
  }
  EXPECT_EQ(rows.size(), begin);
  EXPECT_FALSE(store.has({2, 175}));
  EXPECT_THAT(error_of([&] {
                store.read(std::vector<DocumentRows>{{2, 175}});
              }),
              HasSubstr("holds 174 rows of document 2, and 175 are asked for"));
  EXPECT_EQ(store.rows(kTestDocuments), 0);
}

TEST_F(HiddenStoreTest, KeepsF32) {
  format_.dtype = at::kFloat;
  HiddenStore store = make_store(directory_, format_);
  const DocumentRows wanted{7, test_rows(7, format_).size()};
  expect_equal(store.read({&wanted, 1}), test_rows(7, format_));
}

TEST_F(HiddenStoreTest, Int8IsWithinHalfAStepOfEveryLayersScale) {
  format_.int8 = true;
  HiddenStore store = make_store(directory_, format_);
  const HiddenRows rows = test_rows(9, format_);
  const DocumentRows wanted{9, rows.size()};
  const HiddenRows read = store.read({&wanted, 1});
  EXPECT_TRUE(at::equal(read.tokens, rows.tokens));
  for (int64_t layer = 0; layer < format_.layers; ++layer) {
    const at::Tensor x = rows.aux.narrow(1, layer * format_.hidden, format_.hidden).to(at::kFloat);
    const at::Tensor y = read.aux.narrow(1, layer * format_.hidden, format_.hidden).to(at::kFloat);
    // Half a step, and the rounding of the result to bf16.
    const at::Tensor bound = x.abs().amax(1, true) * (0.5 / 127) + x.abs() / 128;
    EXPECT_TRUE(((x - y).abs() <= bound).all().item<bool>());
    EXPECT_FALSE(at::equal(x, y));
  }
  EXPECT_LT(format_.row_bytes(), 0.55 * static_cast<double>(test_format().row_bytes()));
}

TEST_F(HiddenStoreTest, RowsOfZerosSurviveInt8) {
  format_.int8 = true;
  HiddenStore store = HiddenStore::open_or_create(directory_, test_facts(), format_);
  HiddenStoreWriter writer(store, {});
  HiddenRows rows = test_rows(0, format_);
  rows.aux.zero_();
  writer.add(0, rows);
  writer.publish();
  const DocumentRows wanted{0, rows.size()};
  EXPECT_TRUE(at::equal(store.read({&wanted, 1}).aux, rows.aux));
}

TEST_F(HiddenStoreTest, AMissingFilterIsRefusedByName) {
  format_.compression = "zstd";
  const std::string message = error_of([&] { make_store(directory_, format_); });
  // Where a zstd plugin is installed, the store must hold.
  if (message == kNoError) {
    EXPECT_EQ(reopen().documents(), kTestDocuments);
  } else {
    EXPECT_THAT(message, HasSubstr("hidden_states.compression is zstd"));
    EXPECT_THAT(message, HasSubstr("HDF5_PLUGIN_PATH"));
    EXPECT_FALSE(fs::exists(directory_ / "manifest.json"));
  }
}

TEST_F(HiddenStoreTest, RowsOfAnotherShapeAreRefused) {
  HiddenStore store = HiddenStore::open_or_create(directory_, test_facts(), format_);
  HiddenStoreWriter writer(store, {});
  HiddenRows rows = test_rows(0, format_);
  rows.last = rows.last.narrow(1, 0, 255);
  writer.add(0, rows);
  EXPECT_THAT(error_of([&] { writer.publish(); }), HasSubstr("last hidden states of 100 rows"));
}

TEST_F(HiddenStoreTest, AnotherRunsStoreIsRefusedWithEveryFieldThatDiffers) {
  make_store(directory_, format_);
  const StoreFacts other{{"target", "a1"}, {"tokenizer", "c3"}, {"norm", "yes"}};
  for (const bool writing : {false, true}) {
    const std::string message = error_of([&] {
      writing ? HiddenStore::open_or_create(directory_, other, format_)
              : HiddenStore::open(directory_, other, format_);
    });
    EXPECT_THAT(message, HasSubstr((directory_ / "manifest.json").string()));
    EXPECT_THAT(message, HasSubstr("tokenizer: the store has b2, this run c3"));
    EXPECT_THAT(message, HasSubstr("layers: the store has 1 3, this run (absent)"));
    EXPECT_THAT(message, HasSubstr("norm: the store has (absent), this run yes"));
    EXPECT_THAT(message, ::testing::Not(HasSubstr("target:")));
  }
}

TEST_F(HiddenStoreTest, WhatIsNoStoreIsRefused) {
  EXPECT_THAT(error_of([&] { reopen(); }), HasSubstr("is no hidden-state store"));
  make_store(directory_, format_);
  write_file_atomic(directory_ / "manifest.json", "{\"format\": 1, ");
  EXPECT_THAT(error_of([&] { reopen(); }), HasSubstr("manifest.json is damaged"));
  write_file_atomic(directory_ / "manifest.json", "{\"format\": 9}");
  EXPECT_THAT(error_of([&] { reopen(); }), HasSubstr("format 9 is not this program's (1)"));
}

}  // namespace
}  // namespace aerie
