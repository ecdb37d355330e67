#include "data/gguf.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <optional>

#include "common/error.h"
#include "common/files.h"
#include "data/gguf_types.h"

namespace aerie {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is little-endian here");

using namespace gguf;

constexpr int kMaxNesting = 4;  // arrays of arrays

size_t scalar_bytes(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    case kU64:
    case kI64:
    case kF64:
      return 8;
    default:
      return 0;  // text, arrays, unknown
  }
}

std::optional<at::ScalarType> dtype_of(uint32_t number) {
  for (const TensorType& type : kTensorTypes)
    if (type.number == number) return type.dtype;
  return std::nullopt;
}

template <typename T>
T load(std::string_view bytes, size_t at = 0) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::optional<int64_t> integer_at(std::string_view bytes, uint32_t type, size_t index) {
  const size_t at = index * scalar_bytes(type);
  switch (type) {
    case kU8:
      return load<uint8_t>(bytes, at);
    case kI8:
      return load<int8_t>(bytes, at);
    case kU16:
      return load<uint16_t>(bytes, at);
    case kI16:
      return load<int16_t>(bytes, at);
    case kU32:
      return load<uint32_t>(bytes, at);
    case kI32:
      return load<int32_t>(bytes, at);
    case kU64:
    case kI64:
      return load<int64_t>(bytes, at);
    default:
      return std::nullopt;
  }
}

constexpr size_t kArrayHead = 12;  // element type and count

}  // namespace

/// Reads forward through the header; every step is checked against the file's end.
class GgufFile::Cursor {
 public:
  Cursor(std::string_view bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  std::string_view take(uint64_t count, const std::string& what) {
    AERIE_CHECK(count <= bytes_.size() - at_,
                "{}: {} needs {} bytes at {} and the file has {}; it is truncated or corrupt: copy "
                "it again",
                file_, what, count, at_, bytes_.size());
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }
  template <typename T>
  T read(const std::string& what) {
    return load<T>(take(sizeof(T), what));
  }
  std::string text(const std::string& what) {
    return std::string(take(read<uint64_t>(what), what));
  }
  GgufValue value(const std::string& what) {
    const auto type = read<uint32_t>(what);
    const size_t begin = at_;
    skip(type, what, 0);
    return {type, std::string(bytes_.substr(begin, at_ - begin))};
  }
  size_t at() const { return at_; }

 private:
  void skip(uint32_t type, const std::string& what, int depth) {
    if (const size_t size = scalar_bytes(type)) {
      take(size, what);
    } else if (type == kText) {
      text(what);
    } else {
      AERIE_CHECK(type == kArray && depth < kMaxNesting,
                  "{}: {} has the unknown type {}; the file is corrupt: copy it again", file_, what,
                  type);
      skip_array(what, depth);
    }
  }
  void skip_array(const std::string& what, int depth) {
    const auto element = read<uint32_t>(what);
    const auto count = read<uint64_t>(what);
    if (const size_t size = scalar_bytes(element)) {
      AERIE_CHECK(count <= bytes_.size(),
                  "{}: {} has {} elements; the file is corrupt: copy it again", file_, what, count);
      take(count * size, what);
      return;
    }
    for (uint64_t i = 0; i < count; ++i) skip(element, what, depth + 1);
  }

  std::string_view bytes_;
  std::string file_;
  size_t at_ = 0;
};

bool is_gguf(const fs::path& path) {
  std::string head(kMagic.size(), '\0');
  std::ifstream(path, std::ios::binary)
      .read(head.data(), static_cast<std::streamsize>(head.size()));
  return head == kMagic;
}

GgufFile::GgufFile(const fs::path& path) : path_(path), map_(std::make_shared<MappedFile>(path)) {
  const std::string name = path.string();
  Cursor cursor({reinterpret_cast<const char*>(map_->data()), map_->size()}, name);
  AERIE_CHECK(is_gguf(path), "{} does not begin with \"GGUF\": it is no GGUF file", name);
  cursor.take(kMagic.size(), "the magic");
  const auto version = cursor.read<uint32_t>("the version");
  AERIE_CHECK(version == 2 || version == kVersion,
              "{}: GGUF version {} is not supported (2 and 3 are): convert it again", name,
              version);
  const auto tensors = cursor.read<uint64_t>("the number of tensors");
  read_keys(cursor, cursor.read<uint64_t>("the number of keys"));
  read_tensors(cursor, tensors);
}

void GgufFile::read_keys(Cursor& cursor, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key = cursor.text(fmt::format("key {}", i));
    AERIE_CHECK(!has(key), "{}: the key \"{}\" stands twice; the file is corrupt", path_.string(),
                key);
    metadata_.emplace_back(key, cursor.value("key \"" + key + "\""));
  }
}

void GgufFile::read_tensors(Cursor& cursor, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string name = cursor.text(fmt::format("tensor {}", i));
    const std::string what = "tensor \"" + name + "\"";
    const auto dims = cursor.read<uint32_t>(what);
    AERIE_CHECK(dims <= kMaxDims, "{}: {} has {} dimensions; the file is corrupt: copy it again",
                path_.string(), what, dims);
    Place place;
    for (uint32_t d = 0; d < dims; ++d) {
      place.shape.insert(place.shape.begin(), cursor.read<int64_t>(what));
    }
    place.type = cursor.read<uint32_t>(what);
    place.offset = cursor.read<uint64_t>(what);
    AERIE_CHECK(tensors_.emplace(name, place).second, "{}: {} stands twice; the file is corrupt",
                path_.string(), what);
    names_.push_back(name);
  }
  const int64_t alignment = has("general.alignment") ? integer("general.alignment") : kAlignment;
  AERIE_CHECK(alignment > 0, "{}: general.alignment is {}; the file is corrupt", path_.string(),
              alignment);
  const size_t data = align(cursor.at(), static_cast<size_t>(alignment));
  for (auto& [name, place] : tensors_) {
    AERIE_CHECK(place.offset <= map_->size(),
                "{}: tensor \"{}\" begins at byte {} of the data and the file has {}; it is "
                "truncated: copy it again",
                path_.string(), name, place.offset, map_->size());
    place.offset += data;
    check_inside(name, place);
  }
}

void GgufFile::check_inside(const std::string& name, const Place& place) const {
  const auto dtype = dtype_of(place.type);
  size_t bytes = dtype ? c10::elementSize(*dtype) : 0;
  for (const int64_t dim : place.shape) {
    AERIE_CHECK(dim >= 0 && !__builtin_mul_overflow(bytes, static_cast<size_t>(dim), &bytes),
                "{}: tensor \"{}\" has shape [{}]; the file is corrupt: copy it again",
                path_.string(), name, fmt::join(place.shape, ","));
  }
  AERIE_CHECK(place.offset <= map_->size() && bytes <= map_->size() - place.offset,
              "{}: tensor \"{}\" ends at byte {} and the file has {}; it is truncated: copy it "
              "again",
              path_.string(), name, place.offset + bytes, map_->size());
}

const GgufValue* GgufFile::find(std::string_view key) const {
  for (const auto& [name, value] : metadata_)
    if (name == key) return &value;
  return nullptr;
}

const GgufValue& GgufFile::require(std::string_view key) const {
  const GgufValue* value = find(key);
  AERIE_CHECK(value != nullptr, "{}: the key \"{}\" is missing: write the file again",
              path_.string(), key);
  return *value;
}

int64_t GgufFile::integer(std::string_view key) const {
  const GgufValue& value = require(key);
  const auto number = integer_at(value.bytes, value.type, 0);
  AERIE_CHECK(number.has_value(), "{}: \"{}\" has type {} and must be an integer", path_.string(),
              key, value.type);
  return *number;
}

double GgufFile::number(std::string_view key) const {
  const GgufValue& value = require(key);
  AERIE_CHECK(value.type == kF32 || value.type == kF64,
              "{}: \"{}\" has type {} and must be a float", path_.string(), key, value.type);
  return value.type == kF32 ? load<float>(value.bytes) : load<double>(value.bytes);
}

bool GgufFile::boolean(std::string_view key) const {
  const GgufValue& value = require(key);
  AERIE_CHECK(value.type == kBool, "{}: \"{}\" has type {} and must be true or false",
              path_.string(), key, value.type);
  return value.bytes[0] != 0;
}

std::string GgufFile::text(std::string_view key) const {
  const GgufValue& value = require(key);
  AERIE_CHECK(value.type == kText, "{}: \"{}\" has type {} and must be text", path_.string(), key,
              value.type);
  return value.bytes.substr(sizeof(uint64_t));
}

int64_t GgufFile::array_size(std::string_view key) const {
  const GgufValue& value = require(key);
  AERIE_CHECK(value.type == kArray, "{}: \"{}\" has type {} and must be an array", path_.string(),
              key, value.type);
  return load<int64_t>(value.bytes, sizeof(uint32_t));
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  const auto count = static_cast<size_t>(array_size(key));
  const std::string_view bytes = require(key).bytes;
  const auto element = load<uint32_t>(bytes);
  std::vector<int64_t> values;
  for (size_t i = 0; i < count; ++i) {
    const auto number = integer_at(bytes.substr(kArrayHead), element, i);
    AERIE_CHECK(number.has_value(), "{}: \"{}\" holds elements of type {} and must hold integers",
                path_.string(), key, element);
    values.push_back(*number);
  }
  return values;
}

at::Tensor GgufFile::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  AERIE_CHECK(found != tensors_.end(), "{}: tensor \"{}\" is missing: write the file again",
              path_.string(), name);
  const Place& place = found->second;
  const auto dtype = dtype_of(place.type);
  AERIE_CHECK(dtype.has_value(),
              "{}: tensor \"{}\" has the quantised type {}: give the file that it was made from "
              "(f32, f16 or bf16)",
              path_.string(), name, place.type);
  at::Tensor copy = at::empty(place.shape, *dtype);
  if (copy.numel() > 0) std::memcpy(copy.data_ptr(), map_->data() + place.offset, copy.nbytes());
  return copy;
}

}  // namespace aerie
