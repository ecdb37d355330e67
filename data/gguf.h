// GGUF files, the container that llama.cpp loads: typed metadata and tensors. This reader and
// writer know the container only; what the keys of a model mean stands with the model.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aerie {

class MappedFile;

/// A metadata value: its type's number and its bytes, exactly as they stand in a file, so that a
/// value can be copied from file to file without being understood.
struct GgufValue {
  uint32_t type = 0;
  std::string bytes;
  bool operator==(const GgufValue&) const = default;

  static GgufValue u32(uint32_t value);
  static GgufValue f32(float value);
  static GgufValue boolean(bool value);
  static GgufValue text(std::string_view value);
  static GgufValue i32s(const std::vector<int32_t>& values);
  static GgufValue texts(const std::vector<std::string>& values);
};
/// Keys in file order.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

/// An opened file (versions 2 and 3, little endian). Opening checks the whole header: keys and
/// tensor names differ, every value and every tensor lies inside the file. Throws Error naming file
/// and key or tensor.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const GgufMetadata& metadata() const { return metadata_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // A value by type. Throws Error if the key is missing or has another type.
  int64_t integer(std::string_view key) const;  ///< any integer type
  double number(std::string_view key) const;    ///< f32 or f64
  bool boolean(std::string_view key) const;
  std::string text(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;  ///< an array of any integer type
  int64_t array_size(std::string_view key) const;             ///< of an array of anything

  /// In file order.
  const std::vector<std::string>& tensor_names() const { return names_; }
  bool has_tensor(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// A CPU copy, outermost dimension first (a file lists the innermost first). Throws Error for a
  /// quantised type, naming it by number.
  at::Tensor tensor(std::string_view name) const;

 private:
  class Cursor;
  struct Place {
    uint32_t type = 0;
    std::vector<int64_t> shape;  // outermost first
    size_t offset = 0;           // within the file
  };
  void read_keys(Cursor& cursor, uint64_t count);
  void read_tensors(Cursor& cursor, uint64_t count);
  const GgufValue* find(std::string_view key) const;
  const GgufValue& require(std::string_view key) const;
  void check_inside(const std::string& name, const Place& place) const;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> map_;
  GgufMetadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, Place, std::less<>> tensors_;
};

/// Whether the file begins as GGUF files do.
bool is_gguf(const std::filesystem::path& path);

/// Writes version 3, alignment 32: `metadata` and CPU tensors (f32, f16, bf16, i32, i64; at most 4
/// dimensions) in their order. The file appears whole or not at all.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace aerie
