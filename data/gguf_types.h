// The numbers of GGUF's types. Internal to its reader and writer.
#pragma once
#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace aerie::gguf {

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kVersion = 3;
constexpr size_t kAlignment = 32;  // where the file does not say otherwise
constexpr uint64_t kMaxDims = 4;

enum ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kText = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

struct TensorType {
  uint32_t number;
  at::ScalarType dtype;
};
constexpr TensorType kTensorTypes[] = {
    {0, at::kFloat}, {1, at::kHalf}, {26, at::kInt}, {27, at::kLong}, {30, at::kBFloat16}};

constexpr size_t align(size_t offset, size_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace aerie::gguf
