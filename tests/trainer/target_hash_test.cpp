// A target is known by every byte of its weights, and they are read once.
#include "trainer/target_hash.h"

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include <chrono>

#include "common/files.h"
#include "data/safetensors.h"
#include "tests/testing.h"

namespace aerie {
namespace {

using testing::Scratch;

class TargetHash : public ::testing::Test {
 protected:
  /// A target of one large matrix, and nothing else that matters here.
  void write(const std::string& name) const {
    fs::create_directories(scratch_ / name);
    write_file_atomic(scratch_ / name / "config.json", "{}");
    write_safetensors(scratch_ / name / "model.safetensors",
                      {{"model.embed_tokens.weight", at::arange(64 * 1024).view({64, 1024})}});
  }
  /// Edits a byte of the file, `from_end` before its end.
  void edit(const std::string& name, size_t from_end) const {
    const fs::path file = scratch_ / name / "model.safetensors";
    std::string content = read_file(file);
    char& byte = content[content.size() - from_end];
    byte = static_cast<char>(byte ^ 1);
    write_file_atomic(file, content);
  }
  std::string fingerprint(const std::string& name) const {
    return fingerprint_target(scratch_ / name, cache_);
  }

  Scratch scratch_;
  fs::path cache_ = weights_cache(scratch_ / "data");
};

TEST_F(TargetHash, OneEditedValueAnywhereIsAnotherTarget) {
  write("one");
  write("two");
  const std::string before = fingerprint("one");
  EXPECT_EQ(fingerprint("two"), before);
  const auto size = static_cast<size_t>(fs::file_size(scratch_ / "two/model.safetensors"));
  for (const size_t from_end : {size_t{1}, size / 3, size / 2, size * 2 / 3}) {
    edit("two", from_end);
    EXPECT_NE(fingerprint("two"), before) << from_end;
    edit("two", from_end);
    EXPECT_EQ(fingerprint("two"), before) << from_end;
  }
  write_file_atomic(scratch_ / "two/config.json", "{ }");
  EXPECT_NE(fingerprint("two"), before);
}

TEST_F(TargetHash, WhatHasNotChangedIsNotReadAgain) {
  write("one");
  const std::string before = fingerprint("one");
  const fs::path file = scratch_ / "one/model.safetensors";
  const auto changed = fs::last_write_time(file);
  edit("one", 1000);
  fs::last_write_time(file, changed);
  EXPECT_EQ(fingerprint("one"), before) << "the cache was not asked";
  EXPECT_NE(fingerprint_target(scratch_ / "one", {}), before);
  fs::last_write_time(file, changed + std::chrono::seconds(1));
  EXPECT_NE(fingerprint("one"), before);
}

TEST_F(TargetHash, ADamagedCacheIsMadeAgain) {
  write("one");
  const std::string before = fingerprint("one");
  for (const char* content : {"", "[1]", "{\"x\": 3}"}) {
    write_file_atomic(cache_, content);
    EXPECT_EQ(fingerprint("one"), before) << content;
  }
  EXPECT_NE(read_file(cache_).find("model.safetensors"), std::string::npos);
}

}  // namespace
}  // namespace aerie
