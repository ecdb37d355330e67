// A file that is read must be sound; every way of being unsound has its message.
#include "data/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>

#include "tests/testing.h"

namespace aerie {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class Safetensors : public ::testing::Test {
 protected:
  /// A file out of a header and a body of zeros.
  void write(const std::string& header, size_t body) {
    std::string bytes(8, '\0');
    const uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, 8);
    write_file_atomic(file_, bytes + header + std::string(body, '\0'));
  }
  std::string message() {
    try {
      const SafetensorsFile opened(file_);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(file_.string()));
      return e.what();
    }
    return "no error";
  }

  const testing::Scratch scratch_;
  const fs::path file_ = scratch_ / "model.safetensors";
};

TEST_F(Safetensors, RoundTripOfEveryType) {
  const std::vector<at::ScalarType> types = {at::kBFloat16, at::kHalf, at::kFloat, at::kDouble,
                                             at::kLong,     at::kInt,  at::kShort, at::kChar,
                                             at::kByte,     at::kBool};
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const at::ScalarType type : types)
    tensors.emplace_back(c10::toString(type), at::arange(0, 6).reshape({2, 3}).to(type));
  tensors.emplace_back("transposed", at::arange(0, 6).reshape({2, 3}).t());
  tensors.emplace_back("empty", at::empty({0, 4}));
  tensors.emplace_back("scalar", at::tensor(3.5));
  write_safetensors(file_, tensors, {{"format", "pt"}, {"note", "a \"quoted\" é"}});

  const SafetensorsFile read(file_);
  EXPECT_THAT(read.metadata(), ElementsAre(Pair("format", "pt"), Pair("note", "a \"quoted\" é")));
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(read.tensor(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(read.tensor(name).equal(tensor)) << name;
  }
  EXPECT_THAT(read.info("Half").shape, ElementsAre(2, 3));
}

TEST_F(Safetensors, TensorsOutliveTheFile) {
  write_safetensors(file_, {{"w", at::arange(0, 1000)}});
  at::Tensor kept = SafetensorsFile(file_).tensor("w");
  fs::remove(file_);
  EXPECT_TRUE(kept.equal(at::arange(0, 1000)));
}

TEST_F(Safetensors, UnalignedTensorsAreReadAll) {
  write(
      R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}})",
      11);
  EXPECT_TRUE(SafetensorsFile(file_).tensor("b").equal(at::zeros({2})));
}

TEST_F(Safetensors, UnknownNameListsSimilarOnes) {
  write_safetensors(file_, {{"model.norm.weight", at::ones({2})}, {"lm_head.bias", at::ones({2})}});
  const SafetensorsFile read(file_);
  EXPECT_FALSE(read.contains("norm.weight"));
  try {
    read.tensor("norm.weight");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(),
                AllOf(HasSubstr("no tensor 'norm.weight'"), HasSubstr("there: model.norm.weight")));
  }
}

TEST_F(Safetensors, TruncationAnywhereIsNoticed) {
  write_safetensors(file_, {{"w", at::ones({64})}});
  const std::string whole = read_file(file_);
  for (const size_t size : {0ul, 7ul, 8ul, 20ul, whole.size() - 200, whole.size() - 1}) {
    write_file_atomic(file_, whole.substr(0, size));
    EXPECT_THAT(message(), HasSubstr("truncated")) << size << " of " << whole.size();
  }
  write_file_atomic(file_, whole + "x");
  EXPECT_THAT(message(), HasSubstr("1 bytes after the last tensor"));
}

TEST_F(Safetensors, CorruptHeadersAreNamed) {
  write("{", 0);
  EXPECT_THAT(message(), HasSubstr("not JSON"));
  write("[1]", 0);
  EXPECT_THAT(message(), HasSubstr("not a JSON object"));
  write_file_atomic(file_, std::string(16, '\xff'));
  EXPECT_THAT(message(), HasSubstr("not plausible"));
  write(R"({"w":{"dtype":"F32","shape":[2]}})", 8);
  EXPECT_THAT(message(), AllOf(HasSubstr("tensor 'w'"), HasSubstr("data_offsets")));
  write(R"({"w":{"dtype":"U4","shape":[2],"data_offsets":[0,1]}})", 1);
  EXPECT_THAT(message(), AllOf(HasSubstr("tensor 'w'"), HasSubstr("dtype U4")));
  write(R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8);
  EXPECT_THAT(message(), AllOf(HasSubstr("tensor 'w'"), HasSubstr("shape [3] needs 12 bytes")));
  write(R"({"w":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}})", 8);
  EXPECT_THAT(message(), AllOf(HasSubstr("tensor 'w'"), HasSubstr("negative")));
  write(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0);
  EXPECT_THAT(message(), AllOf(HasSubstr("tensor 'w'"), HasSubstr("larger than memory")));
  write(R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[8,6]}})", 8);
  EXPECT_THAT(message(), AllOf(HasSubstr("tensor 'w'"), HasSubstr("not a range")));
}

TEST_F(Safetensors, LayoutMustCoverTheFileOnce) {
  write(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
      6);
  EXPECT_THAT(message(), HasSubstr("tensor 'b' overlaps 'a'"));
  write(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6);
  EXPECT_THAT(message(), HasSubstr("2 bytes before tensor 'a'"));
  write(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[100,104]}})", 6);
  EXPECT_THAT(message(), HasSubstr("tensor 'a'"));
}

TEST_F(Safetensors, WritingRefusesWhatTheFormatCannotSay) {
  EXPECT_THROW(write_safetensors(file_, {{"w", at::ones({2})}, {"w", at::ones({2})}}), Error);
  EXPECT_THROW(write_safetensors(file_, {{"w", at::ones({2}, at::kComplexFloat)}}), Error);
  EXPECT_FALSE(fs::exists(file_));
}

TEST_F(Safetensors, MissingFile) { EXPECT_THAT(message(), HasSubstr("does not exist")); }

}  // namespace
}  // namespace aerie
