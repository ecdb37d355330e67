// What a trainable target reads from its directory beside its masters.
#pragma once
#include <filesystem>

#include "kernels/ops.h"
#include "target_models/config.h"

namespace aerie {

/// The directory's config. Throws Error for a family that cannot be trained.
ModelConfig trainable_config(const std::filesystem::path& directory);

struct Vocabulary {
  Tensor embed, head;  ///< [V,C], copies in the file's type
};
Vocabulary read_vocabulary(const std::filesystem::path& directory, const ModelConfig& config);

}  // namespace aerie
