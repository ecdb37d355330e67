// The committed answers of the Python tokenizers and of transformers (scripts/make_golden_text.py).
#pragma once
#include <nlohmann/json.hpp>

#include <string>

#include "common/files.h"
#include "data/chat_template.h"
#include "data/json.h"
#include "data/text_files.h"
#include "tests/testing.h"

namespace aerie {

inline fs::path golden_text_dir() { return testing::golden_dir() / "text"; }

inline const Json& golden_text() {
  static const Json golden = Json::parse(read_text(golden_text_dir() / "golden.json.gz"));
  return golden;
}

inline ChatTemplate open_template(const std::string& name) {
  const fs::path file = golden_text_dir() / "templates" / (name + ".jinja");
  return ChatTemplate(read_file(file), golden_text().at("special_tokens"), file.string());
}

}  // namespace aerie
