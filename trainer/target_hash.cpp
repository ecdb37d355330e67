#include "trainer/target_hash.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

using nlohmann::json;

/// What was known before; nothing where it cannot be read: then it is worked out again.
json read_cache(const fs::path& file) {
  if (!fs::is_regular_file(file)) return json::object();
  json known = json::parse(read_file(file), nullptr, false);
  return known.is_object() ? known : json::object();
}

/// Under a name of this process's own first: several ranks write the same.
void write_cache(const fs::path& file, const json& known) {
  fs::create_directories(file.parent_path());
  const fs::path own = beside(file, fmt::format(".{}", ::getpid()));
  write_file_atomic(own, known.dump(2) + "\n");
  fs::rename(own, file);
}

json state_of(const fs::path& file) {
  return {{"bytes", fs::file_size(file)},
          {"changed", fs::last_write_time(file).time_since_epoch().count()}};
}

std::vector<fs::path> weight_files(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::string hash_weights(const fs::path& directory, const fs::path& cache) {
  json known = read_cache(cache);
  bool changed = false;
  std::string all;
  for (const fs::path& file : weight_files(directory)) {
    json& entry = known[fs::canonical(file).string()];
    const json state = state_of(file);
    const bool same = entry.is_object() && entry.value("state", json()) == state &&
                      entry.value("hash", json()).is_string();
    if (!same) entry = {{"state", state}, {"hash", hash_file(file)}};
    changed = changed || !same;
    all += fmt::format("{} {}\n", file.filename().string(), entry.at("hash").get<std::string>());
  }
  if (changed && !cache.empty()) write_cache(cache, known);
  return hash_hex(all);
}

std::string fingerprint_target(const fs::path& directory, const fs::path& cache) {
  return hash_hex(read_file(directory / "config.json") + hash_weights(directory, cache));
}

fs::path weights_cache(const fs::path& data) { return data.empty() ? data : data / "weights.json"; }

}  // namespace aerie
