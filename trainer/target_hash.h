// Which target a run or a store belongs to: a hash of all that its weights are.
#pragma once
#include <filesystem>
#include <string>

namespace aerie {

/// Hash of the names, sizes and whole contents of a directory's safetensors files. A file whose
/// size and time of change stand in `cache` (a JSON file, kept up to date) is not read again; "":
/// no cache.
std::string hash_weights(const std::filesystem::path& directory,
                         const std::filesystem::path& cache);

/// A short word for a Hugging Face directory's config.json and weights. One value that differs
/// anywhere makes another word.
std::string fingerprint_target(const std::filesystem::path& directory,
                               const std::filesystem::path& cache);

/// The cache beside the prepared data of a run, data.cache.
std::filesystem::path weights_cache(const std::filesystem::path& data);

}  // namespace aerie
