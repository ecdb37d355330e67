// Keys of a preprocessor's settings, asked for by name and type.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "common/error.h"
#include "data/json.h"

namespace aerie {

/// The value of `key`; Error naming the file `where` if it is missing or of another type.
template <typename T>
T setting(const Json& settings, const char* key, const std::string& where) {
  AERIE_CHECK(settings.contains(key), "{}: the key \"{}\" is missing: add it", where, key);
  try {
    return settings.at(key).get<T>();
  } catch (const Json::exception& e) {
    fail("{}: \"{}\": {}", where, key, e.what());
  }
}

}  // namespace aerie
