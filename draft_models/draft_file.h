// The tensors of a draft's directory under EAGLE's names, whatever prefix the file gives them.
// Internal to the readers of drafts.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "draft_models/dialects.h"
#include "target_models/params.h"

namespace aerie {

constexpr std::string_view kMidlayer = "midlayer.", kLayer0 = "layers.0.";

/// A draft file's tensors under the names of file_tensors.h. "layers.0." and "model." are
/// understood. Throws Error for a tensor that stands there under two names.
class DraftFile {
 public:
  explicit DraftFile(const std::filesystem::path& directory);

  bool has(const std::string& name) const { return actual_.count(name) != 0; }
  std::string file_of(const std::string& name) const { return store_.file_of(actual_.at(name)); }
  /// Floating-point tensors are finite. Throws Error naming file, tensor and both shapes.
  Tensor take(const std::string& name, at::IntArrayRef shape);
  Tensor take_integers(const std::string& name, int64_t size, at::ScalarType type);
  std::vector<int64_t> shape_of(const std::string& name) const {
    return store_.shape_of(actual_.at(name));
  }
  /// Throws Error for tensors that nobody took.
  void finish() const;

 private:
  ParamStore store_;
  std::map<std::string, std::string> actual_;  // our name -> the file's
};

enum class Strictness {
  kOurs,     ///< everything that export writes
  kForeign,  ///< what other trainers leave out is allowed to be missing: t2d
};

/// d2t (offsets, one-to-one, inside the vocabulary) and t2d, which must agree. A file of the whole
/// vocabulary may have neither.
VocabMap read_vocab(DraftFile& file, const DraftConfig& config, Strictness strictness);

/// Throws Error, naming both values, where a draft was made for another target than `target`.
void check_belongs(const DraftConfig& draft, const ModelConfig& target, const std::string& where);

/// All of a draft's tensors; `config` was read from the file `where`.
LoadedDraft load_draft(DraftFile& file, const DraftConfig& config, const ModelConfig& target,
                       const std::string& where, Strictness strictness);

}  // namespace aerie
