// safetensors files: read through a memory map, written atomically.
#pragma once
#include <torch/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aerie {

class MappedFile;

struct TensorInfo {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
  size_t offset = 0, bytes = 0;  // within the file
};

/// One file. Opening it checks the whole header: sizes, dtypes and shapes agree, tensors neither
/// overlap nor leave gaps, and the file is as long as they say. Throws Error naming file and
/// tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// In file order.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const;
  /// Throws Error naming file and tensor, with the nearest names, if there is none.
  const TensorInfo& info(std::string_view name) const;
  /// A CPU tensor over the map, which lives as long as any such tensor: read only, writing to it
  /// crashes. (A tensor that the file does not align is copied.)
  at::Tensor tensor(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Tells the kernel that the tensor's pages are not needed resident any more (it was copied).
  void drop(std::string_view name) const;

 private:
  void read_header(const std::string& json, size_t data_begin);
  void check_layout(size_t data_begin) const;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> map_;
  std::vector<std::string> names_;
  std::map<std::string, TensorInfo, std::less<>> infos_;
  std::map<std::string, std::string> metadata_;
};

/// Writes CPU or device tensors, in this order, contiguous. The file appears whole or not at all.
/// Names must differ; a dtype that safetensors lacks is an Error.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace aerie
