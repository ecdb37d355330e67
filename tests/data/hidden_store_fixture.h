// Stores of made-up rows, for the tests of the hidden-state store.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "data/hidden_store_writer.h"
#include "tests/testing.h"

namespace aerie::testing {

constexpr int64_t kTestDocuments = 40;

inline HiddenFormat test_format() {
  HiddenFormat format;
  format.hidden = 256;  // a chunk is 682 rows, a few documents
  format.layers = 3;
  return format;
}

inline StoreFacts test_facts() {
  return {{"target", "a1"}, {"tokenizer", "b2"}, {"layers", "1 3"}};
}

/// Document d: some hundred rows that depend on d only.
inline HiddenRows test_rows(int64_t document, const HiddenFormat& format) {
  const int64_t rows = 100 + 37 * (document % 11);
  at::manual_seed(document);
  return {at::randint(1000, {rows}, at::kInt), at::randint(2, {rows}, at::kByte),
          at::arange(rows, at::kInt), at::randn({rows, format.aux_width()}).to(format.dtype),
          at::randn({rows, format.hidden}).to(format.dtype)};
}

inline void expect_equal(const HiddenRows& left, const HiddenRows& right) {
  EXPECT_TRUE(at::equal(left.tokens, right.tokens));
  EXPECT_TRUE(at::equal(left.loss_mask, right.loss_mask));
  EXPECT_TRUE(at::equal(left.positions, right.positions));
  EXPECT_TRUE(at::equal(left.aux, right.aux));
  EXPECT_TRUE(at::equal(left.last, right.last));
}

/// Adds documents [begin, end) that the store lacks.
inline void add_documents(HiddenStoreWriter& writer, int64_t begin, int64_t end,
                          const HiddenFormat& format) {
  for (int64_t d = begin; d < end; ++d) {
    const HiddenRows rows = test_rows(d, format);
    if (!writer.has({d, rows.size()})) writer.add(d, rows);
  }
}

inline StoreWriterOptions small_shards() {
  StoreWriterOptions options;
  options.shard_bytes = 6 << 20;  // four shards
  return options;
}

inline HiddenStore make_store(const fs::path& directory, const HiddenFormat& format) {
  HiddenStore store = HiddenStore::open_or_create(directory, test_facts(), format);
  HiddenStoreWriter writer(store, small_shards());
  add_documents(writer, 0, kTestDocuments, format);
  writer.publish();
  return store;
}

/// Every file of a directory: name -> hash of its content (megabytes would be no help in a
/// message).
inline std::map<std::string, std::string> contents(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().string()] = hash_hex(read_file(entry.path()));
  }
  return files;
}

}  // namespace aerie::testing
