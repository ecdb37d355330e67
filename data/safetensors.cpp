#include "data/safetensors.h"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "data/json.h"

namespace aerie {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr size_t kAlignment = 8;

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};
constexpr DtypeName kDtypes[] = {
    {"BF16", at::kBFloat16},
    {"F16", at::kHalf},
    {"F32", at::kFloat},
    {"F64", at::kDouble},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
};

const DtypeName* find_dtype(std::string_view name) {
  for (const DtypeName& entry : kDtypes)
    if (name == entry.name) return &entry;
  return nullptr;
}

const DtypeName* find_dtype(at::ScalarType dtype) {
  for (const DtypeName& entry : kDtypes)
    if (dtype == entry.dtype) return &entry;
  return nullptr;
}

/// Product of the dimensions and the item size; fails on a negative one and on overflow.
size_t count_bytes(const std::vector<int64_t>& shape, size_t item, const std::string& where) {
  size_t bytes = item;
  for (const int64_t dim : shape) {
    AERIE_CHECK(dim >= 0,
                "{}: negative dimension in shape [{}]; the file is corrupt: copy it again", where,
                fmt::join(shape, ", "));
    AERIE_CHECK(!__builtin_mul_overflow(bytes, static_cast<size_t>(dim), &bytes),
                "{}: shape [{}] is larger than memory can be; the file is corrupt: copy it again",
                where, fmt::join(shape, ", "));
  }
  return bytes;
}

TensorInfo read_info(const Json& entry, const std::string& where, size_t data_begin) {
  TensorInfo info;
  const std::string dtype = entry.at("dtype");
  const DtypeName* known = find_dtype(dtype);
  AERIE_CHECK(known,
              "{}: dtype {} is not supported (BF16, F16, F32, F64, I64, I32, I16, I8, U8, "
              "BOOL, F8_E4M3, F8_E5M2 are): convert the tensor",
              where, dtype);
  info.dtype = known->dtype;
  info.shape = entry.at("shape").get<std::vector<int64_t>>();
  const auto offsets = entry.at("data_offsets").get<std::vector<int64_t>>();
  AERIE_CHECK(offsets.size() == 2 && 0 <= offsets[0] && offsets[0] <= offsets[1],
              "{}: data_offsets [{}] are not a range; the file is corrupt: copy it again", where,
              fmt::join(offsets, ", "));
  info.offset = data_begin + static_cast<size_t>(offsets[0]);
  info.bytes = static_cast<size_t>(offsets[1] - offsets[0]);
  const size_t wanted = count_bytes(info.shape, c10::elementSize(info.dtype), where);
  AERIE_CHECK(info.bytes == wanted,
              "{}: {} of shape [{}] needs {} bytes but data_offsets give {}; "
              "the file is corrupt: copy it again",
              where, dtype, fmt::join(info.shape, ", "), wanted, info.bytes);
  return info;
}

/// Names that share the longest ending are what a reader wants to see.
std::vector<std::string> similar_names(const std::vector<std::string>& names,
                                       std::string_view wanted) {
  const auto shared_tail = [&](const std::string& name) {
    const auto [a, b] = std::mismatch(name.rbegin(), name.rend(), wanted.rbegin(), wanted.rend());
    return a - name.rbegin();
  };
  std::vector<std::string> best = names;
  const size_t keep = std::min<size_t>(best.size(), 3);
  std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(keep), best.end(),
                    [&](const auto& a, const auto& b) { return shared_tail(a) > shared_tail(b); });
  best.resize(keep);
  return best;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path)
    : path_(path), map_(std::make_shared<MappedFile>(path)) {
  AERIE_CHECK(map_->size() >= kLengthBytes,
              "{}: {} bytes are too few for a safetensors file; it is "
              "truncated: copy it again",
              path.string(), map_->size());
  uint64_t length = 0;
  std::memcpy(&length, map_->data(), kLengthBytes);
  AERIE_CHECK(length <= kMaxHeader,
              "{}: a header of {} bytes is not plausible; this is not a "
              "safetensors file",
              path.string(), length);
  AERIE_CHECK(length <= map_->size() - kLengthBytes,
              "{}: the header needs {} bytes and the file "
              "has {}; it is truncated: copy it again",
              path.string(), length + kLengthBytes, map_->size());
  const auto* text = reinterpret_cast<const char*>(map_->data()) + kLengthBytes;
  read_header(std::string(text, length), kLengthBytes + length);
  check_layout(kLengthBytes + length);
}

void SafetensorsFile::read_header(const std::string& json, size_t data_begin) {
  Json header;
  try {
    header = Json::parse(json);
  } catch (const Json::exception& e) {
    fail("{}: the header is not JSON ({}); the file is corrupt: copy it again", path_.string(),
         e.what());
  }
  AERIE_CHECK(header.is_object(),
              "{}: the header is not a JSON object; this is not a safetensors "
              "file",
              path_.string());
  for (const auto& [name, entry] : header.items()) {
    const std::string where = fmt::format("{}: tensor '{}'", path_.string(), name);
    try {
      if (name == "__metadata__") {
        metadata_ = entry.get<std::map<std::string, std::string>>();
        continue;
      }
      infos_.emplace(name, read_info(entry, where, data_begin));
    } catch (const Json::exception& e) {
      fail("{}: bad header entry ({}); the file is corrupt: copy it again", where, e.what());
    }
    names_.push_back(name);
  }
  std::stable_sort(names_.begin(), names_.end(), [&](const auto& a, const auto& b) {
    const TensorInfo &x = infos_.at(a), &y = infos_.at(b);
    return std::pair(x.offset, x.bytes) < std::pair(y.offset, y.bytes);
  });
}

void SafetensorsFile::check_layout(size_t data_begin) const {
  size_t end = data_begin;
  const std::string* previous = nullptr;
  for (const std::string& name : names_) {
    const TensorInfo& info = infos_.at(name);
    AERIE_CHECK(info.offset >= end,
                "{}: tensor '{}' overlaps '{}'; the file is corrupt: copy it "
                "again",
                path_.string(), name, previous ? *previous : "the header");
    AERIE_CHECK(info.offset == end,
                "{}: {} bytes before tensor '{}' belong to no tensor; the file "
                "is corrupt: copy it again",
                path_.string(), info.offset - end, name);
    end = info.offset + info.bytes;
    AERIE_CHECK(end <= map_->size(),
                "{}: tensor '{}' ends at byte {} and the file has {}; it is "
                "truncated: copy it again",
                path_.string(), name, end, map_->size());
    previous = &name;
  }
  AERIE_CHECK(end == map_->size(),
              "{}: {} bytes after the last tensor belong to no tensor; the "
              "file is corrupt: copy it again",
              path_.string(), map_->size() - end);
}

bool SafetensorsFile::contains(std::string_view name) const {
  return infos_.find(name) != infos_.end();
}

const TensorInfo& SafetensorsFile::info(std::string_view name) const {
  const auto at = infos_.find(name);
  if (at == infos_.end()) {
    fail("{}: no tensor '{}'; similar names there: {}", path_.string(), name,
         fmt::join(similar_names(names_, name), ", "));
  }
  return at->second;
}

at::Tensor SafetensorsFile::tensor(std::string_view name) const {
  const TensorInfo& entry = info(name);
  if (entry.bytes == 0) return at::empty(entry.shape, entry.dtype);
  const uint8_t* bytes = map_->data() + entry.offset;
  if (reinterpret_cast<uintptr_t>(bytes) % c10::elementSize(entry.dtype) != 0) {
    at::Tensor copy = at::empty(entry.shape, entry.dtype);
    std::memcpy(copy.data_ptr(), bytes, entry.bytes);
    return copy;
  }
  return at::from_blob(
      const_cast<uint8_t*>(bytes), entry.shape, [map = map_](void*) {}, entry.dtype);
}

void SafetensorsFile::drop(std::string_view name) const {
  const TensorInfo& entry = info(name);
  map_->drop(entry.offset, entry.bytes);
}

void write_safetensors(const fs::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<at::Tensor> kept;
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const DtypeName* dtype = find_dtype(tensor.scalar_type());
    AERIE_CHECK(dtype, "{}: tensor '{}': dtype {} has no name in safetensors", path.string(), name,
                c10::toString(tensor.scalar_type()));
    AERIE_CHECK(!header.contains(name), "{}: tensor '{}' is given twice", path.string(), name);
    kept.push_back(tensor.detach().contiguous().cpu());
    header[name] = {{"dtype", dtype->name},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + kept.back().nbytes()}}};
    offset += kept.back().nbytes();
  }
  std::string front(kLengthBytes, '\0');
  front += header.dump();
  front.resize((front.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const uint64_t length = front.size() - kLengthBytes;
  std::memcpy(front.data(), &length, kLengthBytes);

  std::vector<std::string_view> pieces{front};
  for (const at::Tensor& tensor : kept) {
    pieces.emplace_back(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
  }
  write_file_atomic(path, pieces);
}

}  // namespace aerie
