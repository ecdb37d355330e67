#include "target_models/hf_json.h"

#include <cmath>

#include "common/files.h"

namespace aerie {

using nlohmann::json;

HfJson HfJson::read(const std::filesystem::path& file) {
  json parsed;
  try {
    parsed = json::parse(read_file(file));
  } catch (const json::parse_error& error) {
    fail("{} is not valid JSON ({}): restore the file", file.string(), error.what());
  }
  AERIE_CHECK(parsed.is_object(), "{} holds no JSON object: restore the file", file.string());
  return HfJson(std::move(parsed), file.string());
}

const json* HfJson::lookup(std::string_view key) const {
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool HfJson::has(std::string_view key) const { return lookup(key) != nullptr; }

HfJson HfJson::section(std::string_view key) const {
  const json* value = lookup(key);
  AERIE_CHECK(value != nullptr, "{}: the key \"{}\" is missing: add it", where_, key);
  if (!value->is_object()) wrong_type(key, "an object");
  return HfJson(*value, fmt::format("{}: {}", where_, key));
}

HfJson HfJson::with_defaults(const char* defaults) const {
  json all = json::parse(defaults);
  all.update(object_);
  return HfJson(std::move(all), where_);
}

int64_t HfJson::require_size(std::string_view key) const {
  const int64_t value = require<int64_t>(key);
  AERIE_CHECK(value >= 1, "{}: \"{}\" is {} and must be at least 1", where_, key, value);
  return value;
}

void HfJson::wrong_type(std::string_view key, std::string_view expected) const {
  fail("{}: \"{}\" is {} and must be {}", where_, key, lookup(key)->dump(), expected);
}

template <>
std::optional<int64_t> HfJson::find<int64_t>(std::string_view key) const {
  const json* value = lookup(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) wrong_type(key, "an integer");
  return value->get<int64_t>();
}

template <>
std::optional<double> HfJson::find<double>(std::string_view key) const {
  const json* value = lookup(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) wrong_type(key, "a number");
  return value->get<double>();
}

template <>
std::optional<bool> HfJson::find<bool>(std::string_view key) const {
  const json* value = lookup(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong_type(key, "true or false");
  return value->get<bool>();
}

template <>
std::optional<std::string> HfJson::find<std::string>(std::string_view key) const {
  const json* value = lookup(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong_type(key, "a string");
  return value->get<std::string>();
}

template <>
std::optional<std::vector<int64_t>> HfJson::find<std::vector<int64_t>>(std::string_view key) const {
  const json* value = lookup(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_integer()) return std::vector<int64_t>{value->get<int64_t>()};
  if (!value->is_array()) wrong_type(key, "an integer or a list of integers");
  std::vector<int64_t> list;
  for (const json& item : *value) {
    if (!item.is_number_integer()) wrong_type(key, "an integer or a list of integers");
    list.push_back(item.get<int64_t>());
  }
  return list;
}

template <>
std::optional<std::vector<std::string>> HfJson::find<std::vector<std::string>>(
    std::string_view key) const {
  const json* value = lookup(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) wrong_type(key, "a list of strings");
  std::vector<std::string> list;
  for (const json& item : *value) {
    if (!item.is_string()) wrong_type(key, "a list of strings");
    list.push_back(item.get<std::string>());
  }
  return list;
}

}  // namespace aerie
