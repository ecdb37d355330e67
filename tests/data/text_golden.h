// The committed answers of the Python tokenizers and of transformers (scripts/make_golden_text.py).
#pragma once
#include <nlohmann/json.hpp>

#include <string>

#include "data/json.h"
#include "data/text_files.h"
#include "tests/testing.h"

namespace aerie {

inline fs::path golden_text_dir() { return testing::golden_dir() / "text"; }

inline const Json& golden_text() {
  static const Json golden = Json::parse(read_text(golden_text_dir() / "golden.json.gz"));
  return golden;
}

}  // namespace aerie
