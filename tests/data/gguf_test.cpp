// The GGUF container: what is written comes back, values can be copied unread, and a damaged file
// is refused by name.
#include "data/gguf.h"

#include <gmock/gmock.h>

#include <cstring>

#include "data/gguf_tokenizer.h"
#include "tests/testing.h"

namespace aerie::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

GgufMetadata sample_keys() {
  return {{"general.architecture", GgufValue::text("test")},
          {"a.count", GgufValue::u32(7)},
          {"a.share", GgufValue::f32(0.25F)},
          {"a.flag", GgufValue::boolean(true)},
          {"a.ids", GgufValue::i32s({3, -1, 5})},
          {"a.words", GgufValue::texts({"one", "", "drei"})}};
}

class Gguf : public ::testing::Test {
 protected:
  void SetUp() override {
    write_gguf(file_, sample_keys(),
               {{"matrix", matrix_}, {"vector", vector_}, {"ids", ids_}, {"half", half_}});
  }
  std::string refusal() const {
    return error_of([&] { GgufFile file(file_); });
  }
  /// Overwrites bytes in place.
  void patch(size_t at, const std::string& bytes) const {
    std::string content = read_file(file_);
    content.replace(at, bytes.size(), bytes);
    write_file_atomic(file_, content);
  }

  const Scratch scratch_;
  const fs::path file_ = scratch_ / "sample.gguf";
  const at::Tensor matrix_ = at::randn({3, 5}).to(at::kBFloat16), vector_ = at::randn({7}),
                   ids_ = at::arange(9, at::kLong), half_ = at::randn({2, 2, 4}).to(at::kHalf);
};

TEST_F(Gguf, ComesBack) {
  const GgufFile file(file_);
  EXPECT_EQ(file.metadata(), sample_keys());
  EXPECT_EQ(file.text("general.architecture"), "test");
  EXPECT_EQ(file.integer("a.count"), 7);
  EXPECT_EQ(file.number("a.share"), 0.25);
  EXPECT_TRUE(file.boolean("a.flag"));
  EXPECT_THAT(file.integers("a.ids"), ElementsAre(3, -1, 5));
  EXPECT_EQ(file.array_size("a.words"), 3);
  EXPECT_THAT(file.tensor_names(), ElementsAre("matrix", "vector", "ids", "half"));
  EXPECT_TRUE(file.tensor("matrix").equal(matrix_));
  EXPECT_TRUE(file.tensor("vector").equal(vector_));
  EXPECT_TRUE(file.tensor("ids").equal(ids_));
  EXPECT_TRUE(file.tensor("half").equal(half_));
}

TEST_F(Gguf, AValueIsCopiedByteForByte) {
  const fs::path copy = scratch_ / "copy.gguf";
  write_gguf(copy, GgufFile(file_).metadata(), {{"matrix", matrix_}});
  EXPECT_EQ(GgufFile(copy).metadata(), sample_keys());
}

TEST_F(Gguf, HeaderAndAlignment) {
  const std::string bytes = read_file(file_);
  EXPECT_EQ(bytes.substr(0, 4), "GGUF");
  uint32_t version = 0;
  std::memcpy(&version, bytes.data() + 4, sizeof version);
  EXPECT_EQ(version, 3U);
  EXPECT_EQ(bytes.size() % 32, 0U);
  // The matrix is the first tensor, and the data begins at a multiple of 32.
  const std::string raw(static_cast<const char*>(matrix_.const_data_ptr()), matrix_.nbytes());
  EXPECT_EQ(bytes.find(raw) % 32, 0U);
}

TEST_F(Gguf, WrongTypesAndNamesAreRefused) {
  const GgufFile file(file_);
  EXPECT_THAT(error_of([&] { file.integer("a.words"); }),
              AllOf(HasSubstr("sample.gguf"), HasSubstr("a.words"), HasSubstr("integer")));
  EXPECT_THAT(error_of([&] { file.text("a.count"); }), HasSubstr("must be text"));
  EXPECT_THAT(error_of([&] { file.boolean("b.flag"); }), HasSubstr("\"b.flag\" is missing"));
  EXPECT_THAT(error_of([&] { file.tensor("absent"); }), HasSubstr("\"absent\" is missing"));
  EXPECT_THAT(error_of([&] { file.integers("a.words"); }), HasSubstr("must hold integers"));
}

TEST_F(Gguf, NoSuchKindOfTensorIsWritten) {
  EXPECT_THAT(error_of([&] {
                write_gguf(file_, {}, {{"x", at::zeros({2}, at::kDouble)}});
              }),
              AllOf(HasSubstr("\"x\""), HasSubstr("Double")));
}

TEST_F(Gguf, TruncatedAnywhere) {
  const std::string whole = read_file(file_);
  for (size_t size = 0; size < whole.size() - 32; size += 13) {
    write_file_atomic(file_, std::string_view(whole).substr(0, size));
    EXPECT_NE(refusal(), kNoError) << size << " of " << whole.size() << " bytes";
  }
}

TEST_F(Gguf, OtherFiles) {
  patch(0, "GGUX");
  EXPECT_THAT(refusal(), HasSubstr("does not begin with \"GGUF\""));
  EXPECT_FALSE(is_gguf(file_));
  patch(0, "GGUF");
  patch(4, std::string("\x01\0\0\0", 4));
  EXPECT_THAT(refusal(), HasSubstr("version 1"));
}

TEST_F(Gguf, ImplausibleCounts) {
  patch(16, std::string(8, '\x7f'));  // the number of keys
  EXPECT_THAT(refusal(), AllOf(HasSubstr("sample.gguf"), HasSubstr("corrupt")));
}

// ---- tokenizers ----

constexpr const char* kTokenizer = R"({"version":"1.0","added_tokens":[
  {"id":4,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,
   "special":true}],
  "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
  "decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
  "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"c":3},"merges":[["a","b"]]}})";

TEST(GgufTokenizer, FromHuggingFace) {
  const Scratch scratch;
  scratch.write("tokenizer.json", kTokenizer);
  scratch.write("tokenizer_config.json", R"({"eos_token":"<|end|>","add_bos_token":false})");
  scratch.write("config.json", R"({"bos_token_id":4})");
  const fs::path file = scratch / "keys.gguf";
  write_gguf(file, hf_tokenizer_keys(scratch / "", 6), {});
  const GgufFile keys(file);
  EXPECT_EQ(keys.text("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(keys.metadata()[2].second,
            GgufValue::texts({"a", "b", "ab", "c", "<|end|>", "[PAD5]"}));
  EXPECT_THAT(keys.integers("tokenizer.ggml.token_type"), ElementsAre(1, 1, 1, 1, 3, 5));
  EXPECT_EQ(keys.metadata()[4].second, GgufValue::texts({"a b"}));
  EXPECT_EQ(keys.integer("tokenizer.ggml.eos_token_id"), 4);
  EXPECT_EQ(keys.integer("tokenizer.ggml.bos_token_id"), 4);
  EXPECT_FALSE(keys.boolean("tokenizer.ggml.add_bos_token"));
}

TEST(GgufTokenizer, OtherTokenizersAndTargetsAreRefused) {
  const Scratch scratch;
  EXPECT_THAT(error_of([&] { hf_tokenizer_keys(scratch / "", 6); }), HasSubstr("--target-gguf"));
  scratch.write("tokenizer.json", kTokenizer);
  EXPECT_THAT(error_of([&] { hf_tokenizer_keys(scratch / "", 4); }), HasSubstr("another target"));
  scratch.write("tokenizer.json",
                R"({"version":"1.0","added_tokens":[],"decoder":{"type":"Fuse"},
                    "model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
  EXPECT_THAT(error_of([&] { hf_tokenizer_keys(scratch / "", 4); }),
              AllOf(HasSubstr("BPE"), HasSubstr("--target-gguf")));
}

TEST(GgufTokenizer, FromTheTargetsFile) {
  const Scratch scratch;
  const fs::path file = scratch / "target.gguf";
  const GgufMetadata tokenizer{{"tokenizer.ggml.tokens", GgufValue::texts({"x", "y"})},
                               {"tokenizer.ggml.pre", GgufValue::text("strange")}};
  GgufMetadata all{{"general.architecture", GgufValue::text("llama")}};
  all.insert(all.end(), tokenizer.begin(), tokenizer.end());
  write_gguf(file, all, {});
  EXPECT_EQ(gguf_tokenizer_keys(GgufFile(file), 2), tokenizer);
  EXPECT_THAT(error_of([&] { gguf_tokenizer_keys(GgufFile(file), 3); }),
              AllOf(HasSubstr("2 tokens"), HasSubstr("is 3")));
}

}  // namespace
}  // namespace aerie::testing
