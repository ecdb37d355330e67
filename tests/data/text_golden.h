// The committed answers of the Python tokenizers and of transformers (scripts/make_golden_text.py).
#pragma once
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>

#include "data/json.h"
#include "data/text_files.h"

namespace aerie {

inline std::filesystem::path golden_text_dir() {
  return std::filesystem::path(AERIE_TEST_DIR) / "golden/text";
}

inline const Json& golden_text() {
  static const Json golden = Json::parse(read_text(golden_text_dir() / "golden.json.gz"));
  return golden;
}

inline std::filesystem::path smollm2_dir() {
  return std::filesystem::path(AERIE_SOURCE_DIR) / "models/SmolLM2-135M-Instruct";
}

}  // namespace aerie
