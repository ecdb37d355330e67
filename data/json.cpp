#include "data/json.h"

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"

namespace aerie {

Json read_json_object(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  Json json = Json::parse(read_file(file), nullptr, false);
  AERIE_CHECK(json.is_object(), "{} holds no JSON object: restore the file", file.string());
  return json;
}

}  // namespace aerie
