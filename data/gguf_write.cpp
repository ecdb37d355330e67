// Writing GGUF.
#include <algorithm>

#include "common/error.h"
#include "common/files.h"
#include "data/gguf.h"
#include "data/gguf_types.h"

namespace aerie {
namespace {

using namespace gguf;

template <typename T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& bytes, std::string_view text) {
  append(bytes, static_cast<uint64_t>(text.size()));
  bytes.append(text);
}

}  // namespace

GgufValue GgufValue::u32(uint32_t value) {
  GgufValue result{kU32, {}};
  append(result.bytes, value);
  return result;
}
GgufValue GgufValue::f32(float value) {
  GgufValue result{kF32, {}};
  append(result.bytes, value);
  return result;
}
GgufValue GgufValue::boolean(bool value) { return {kBool, std::string(1, value ? '\1' : '\0')}; }
GgufValue GgufValue::text(std::string_view value) {
  GgufValue result{kText, {}};
  append_text(result.bytes, value);
  return result;
}
GgufValue GgufValue::i32s(const std::vector<int32_t>& values) {
  GgufValue result{kArray, {}};
  append(result.bytes, static_cast<uint32_t>(kI32));
  append(result.bytes, static_cast<uint64_t>(values.size()));
  for (const int32_t value : values) append(result.bytes, value);
  return result;
}
GgufValue GgufValue::texts(const std::vector<std::string>& values) {
  GgufValue result{kArray, {}};
  append(result.bytes, static_cast<uint32_t>(kText));
  append(result.bytes, static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) append_text(result.bytes, value);
  return result;
}

void write_gguf(const fs::path& path, const GgufMetadata& metadata,
                const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::string head(kMagic);
  append(head, kVersion);
  append(head, static_cast<uint64_t>(tensors.size()));
  append(head, static_cast<uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    append_text(head, key);
    append(head, value.type);
    head += value.bytes;
  }
  std::vector<at::Tensor> kept;
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const at::ScalarType dtype = tensor.scalar_type();
    const auto* type = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes),
                                    [&](const auto& t) { return t.dtype == dtype; });
    AERIE_CHECK(type != std::end(kTensorTypes) && tensor.dim() <= static_cast<int64_t>(kMaxDims),
                "{}: tensor \"{}\" is {} of {} dimensions, which GGUF cannot hold", path.string(),
                name, c10::toString(tensor.scalar_type()), tensor.dim());
    kept.push_back(tensor.detach().cpu().contiguous());
    append_text(head, name);
    append(head, static_cast<uint32_t>(tensor.dim()));
    for (int64_t d = tensor.dim() - 1; d >= 0; --d) append(head, tensor.size(d));
    append(head, type->number);
    append(head, static_cast<uint64_t>(offset));
    offset = align(offset + kept.back().nbytes(), kAlignment);
  }
  head.resize(align(head.size(), kAlignment), '\0');
  const std::string padding(kAlignment, '\0');
  std::vector<std::string_view> pieces{head};
  for (const at::Tensor& tensor : kept) {
    pieces.emplace_back(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    pieces.emplace_back(padding.data(), align(tensor.nbytes(), kAlignment) - tensor.nbytes());
  }
  write_file_atomic(path, pieces);
}

}  // namespace aerie
