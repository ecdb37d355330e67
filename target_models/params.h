// The weights of a Hugging Face directory, pulled by name and expected shape.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "data/safetensors.h"
#include "kernels/ops.h"

namespace aerie {

/// Reads model.safetensors, or the shards of model.safetensors.index.json, through a memory map.
/// A caller takes every tensor it needs and calls finish(), which refuses what nobody asked for.
class ParamStore {
 public:
  /// Throws Error for a missing, truncated or contradictory file.
  explicit ParamStore(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  /// Tensors whose names begin with `prefix` are known with `as` in its place from now on: models
  /// with towers store the language model of another family under a prefix of their own.
  void rename_prefix(const std::string& prefix, const std::string& as);

  bool has(const std::string& name) const { return place_.count(name) != 0; }
  std::vector<std::string> names() const;
  std::vector<int64_t> shape_of(const std::string& name) const;
  /// The file that holds `name`, for messages.
  std::string file_of(const std::string& name) const;

  /// A read-only view on the map, in the file's own type; it keeps the map alive. Throws Error
  /// naming file, tensor and both shapes.
  Tensor take(const std::string& name, at::IntArrayRef shape);
  /// The tensor's bytes have been copied: let their pages go. A later read maps them again.
  void drop(const std::string& name) const;
  /// Throws Error listing tensors that were not taken, unless `allowed` says that they may stay.
  void finish(const std::function<bool(const std::string&)>& allowed) const;

 private:
  void open(const std::filesystem::path& file);
  void check_index(const std::filesystem::path& index) const;

  struct Place {
    size_t file;
    std::string name;  // in the file
  };
  std::filesystem::path directory_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> place_;  // by the name that callers use
  std::set<std::string> taken_;
};

/// Where weights are to live, and in which type.
struct Placement {
  at::Device device;
  at::ScalarType dtype;
};

/// A norm's weight: its value in the placement's type, kept in f32, which is what norms compute in.
/// `offset` is added there (Gemma stores weights minus 1).
Tensor load_norm(ParamStore& store, const std::string& name, int64_t size,
                 const Placement& placement, double offset = 0);
/// A tensor of its own (biases).
Tensor load_tensor(ParamStore& store, const std::string& name, at::IntArrayRef shape,
                   const Placement& placement);
/// One projection of several: the named weights [rows[i], in_features] on top of each other, packed
/// for inference. Their pages are dropped.
ops::LinearWeight load_linear(ParamStore& store, const std::vector<std::string>& names,
                              const std::vector<int64_t>& rows, int64_t in_features,
                              const Placement& placement);

}  // namespace aerie
