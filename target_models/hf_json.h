// A Hugging Face JSON file whose keys are asked for by name and type. Internal to the readers of
// configurations (this header is the only one that pulls in the JSON library).
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace aerie {

class HfJson {
 public:
  /// Reads and parses `file`. Throws Error naming the file and, for a syntax error, the place.
  static HfJson read(const std::filesystem::path& file);
  HfJson(nlohmann::json object, std::string where)
      : object_(std::move(object)), where_(std::move(where)) {}

  /// A key that is there and not null.
  bool has(std::string_view key) const;
  /// The object under `key`; Error if it is missing or no object.
  HfJson section(std::string_view key) const;

  /// Itself with the keys that it lacks taken from the JSON object `defaults`.
  HfJson with_defaults(const char* defaults) const;

  /// The value of a key without which the file cannot be understood.
  template <typename T>
  T require(std::string_view key) const {
    const std::optional<T> value = find<T>(key);
    AERIE_CHECK(value.has_value(),
                "{}: the key \"{}\" is missing, and it has no safe default: add it", where_, key);
    return *value;
  }
  /// As require, and at least 1.
  int64_t require_size(std::string_view key) const;
  /// Nothing if the key is missing or null; Error if it has another type.
  template <typename T>
  std::optional<T> find(std::string_view key) const;

  const nlohmann::json& object() const { return object_; }
  /// File name, and the section within it, for messages.
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* lookup(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, std::string_view expected) const;

  nlohmann::json object_;
  std::string where_;
};

// Types that configurations hold; a number is never read from a string, an integer never from a
// fraction.
template <>
std::optional<int64_t> HfJson::find<int64_t>(std::string_view key) const;
template <>
std::optional<double> HfJson::find<double>(std::string_view key) const;
template <>
std::optional<bool> HfJson::find<bool>(std::string_view key) const;
template <>
std::optional<std::string> HfJson::find<std::string>(std::string_view key) const;
/// One integer, or a list of them.
template <>
std::optional<std::vector<int64_t>> HfJson::find<std::vector<int64_t>>(std::string_view key) const;
template <>
std::optional<std::vector<std::string>> HfJson::find<std::vector<std::string>>(
    std::string_view key) const;

}  // namespace aerie
