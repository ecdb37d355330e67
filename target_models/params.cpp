#include "target_models/params.h"

#include <ATen/ops/cat.h>

#include "common/error.h"
#include "target_models/hf_json.h"

namespace aerie {
namespace {

namespace fs = std::filesystem;

/// Shards that an index names, each once.
std::set<std::string> shards_of(const HfJson& index) {
  std::set<std::string> shards;
  const HfJson map = index.section("weight_map");
  for (const auto& [name, shard] : map.object().items()) {
    AERIE_CHECK(shard.is_string(),
                "{}: weight_map: the file of \"{}\" is no string: restore the file", index.where(),
                name);
    shards.insert(shard.get<std::string>());
  }
  AERIE_CHECK(!shards.empty(), "{}: weight_map is empty: restore the file", index.where());
  return shards;
}

}  // namespace

ParamStore::ParamStore(const fs::path& directory) : directory_(directory) {
  const fs::path single = directory / "model.safetensors";
  const fs::path index = directory / "model.safetensors.index.json";
  if (fs::exists(single)) {
    open(single);
    return;
  }
  AERIE_CHECK(
      fs::exists(index),
      "{} holds neither model.safetensors nor model.safetensors.index.json: give a directory "
      "saved with safetensors (save_pretrained does)",
      directory.string());
  for (const std::string& shard : shards_of(HfJson::read(index))) open(directory / shard);
  check_index(index);
}

void ParamStore::open(const fs::path& file) {
  files_.emplace_back(file);
  for (const std::string& name : files_.back().names()) {
    const bool added = place_.emplace(name, Place{files_.size() - 1, name}).second;
    AERIE_CHECK(added, "{}: tensor \"{}\" is in {} too: remove one of the files", file.string(),
                name, file_of(name));
  }
}

void ParamStore::check_index(const fs::path& index) const {
  const HfJson map = HfJson::read(index).section("weight_map");
  for (const auto& [name, shard] : map.object().items()) {
    AERIE_CHECK(has(name), "{}: tensor \"{}\" is not in {}: fetch the shards again", index.string(),
                name, shard.get<std::string>());
  }
}

void ParamStore::rename_prefix(const std::string& prefix, const std::string& as) {
  std::map<std::string, Place> renamed;
  for (auto& [name, place] : place_) {
    const std::string known = name.starts_with(prefix) ? as + name.substr(prefix.size()) : name;
    AERIE_CHECK(renamed.emplace(known, std::move(place)).second,
                "{}: tensors \"{}\" and \"{}\" are the same one: the file was written wrongly",
                directory_.string(), known, name);
  }
  place_ = std::move(renamed);
}

std::vector<std::string> ParamStore::names() const {
  std::vector<std::string> all;
  for (const auto& [name, place] : place_) all.push_back(name);
  return all;
}

std::vector<int64_t> ParamStore::shape_of(const std::string& name) const {
  const Place& place = place_.at(name);
  return files_[place.file].info(place.name).shape;
}

std::string ParamStore::file_of(const std::string& name) const {
  return files_.at(place_.at(name).file).path().string();
}

Tensor ParamStore::take(const std::string& name, at::IntArrayRef shape) {
  AERIE_CHECK(has(name),
              "{}: tensor \"{}\" [{}] is missing: the weights do not belong to this config.json",
              directory_.string(), name, fmt::join(shape, ","));
  const Place& place = place_.at(name);
  Tensor tensor = files_[place.file].tensor(place.name);
  AERIE_CHECK(tensor.sizes() == shape,
              "{}: tensor \"{}\" has shape [{}] where config.json implies [{}]: the weights do not "
              "belong to this config.json",
              file_of(name), name, fmt::join(tensor.sizes(), ","), fmt::join(shape, ","));
  taken_.insert(name);
  return tensor;
}

void ParamStore::drop(const std::string& name) const {
  const Place& place = place_.at(name);
  files_[place.file].drop(place.name);
}

void ParamStore::finish(const std::function<bool(const std::string&)>& allowed) const {
  std::vector<std::string> left;
  for (const auto& [name, place] : place_) {
    if (taken_.count(name) == 0 && !allowed(name)) left.push_back(name);
  }
  AERIE_CHECK(left.empty(),
              "{}: {} tensors that this architecture does not use, among them \"{}\": config.json "
              "names another architecture than the one that was saved",
              directory_.string(), left.size(), left.front());
}

Tensor load_tensor(ParamStore& store, const std::string& name, at::IntArrayRef shape,
                   const Placement& placement) {
  return store.take(name, shape).to(placement.device, placement.dtype, false, /*copy=*/true);
}

Tensor load_norm(ParamStore& store, const std::string& name, int64_t size,
                 const Placement& placement, double offset) {
  return load_tensor(store, name, {size}, placement).to(at::kFloat) + offset;
}

ops::LinearWeight load_linear(ParamStore& store, const std::vector<std::string>& names,
                              const std::vector<int64_t>& rows, int64_t in_features,
                              const Placement& placement) {
  std::vector<Tensor> parts;
  for (size_t i = 0; i < names.size(); ++i) {
    const Tensor view = store.take(names[i], {rows[i], in_features});
    parts.push_back(view.to(placement.device, placement.dtype));
  }
  ops::LinearWeight weight = ops::pack_linear(parts.size() == 1 ? parts[0] : at::cat(parts));
  for (const std::string& name : names) store.drop(name);
  return weight;
}

}  // namespace aerie
