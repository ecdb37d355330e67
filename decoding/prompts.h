// Rows to answer: conversation files of any form, or `turns` rows of evaluation sets.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/conversation.h"

namespace aerie {

struct PromptRow {
  std::string id;  ///< the row's own, else made from its content; unique within the file
  Conversation conversation;
};

/// The first `limit` rows (0: all). Throws Error naming file and line.
std::vector<PromptRow> read_prompts(const std::filesystem::path& file, int64_t limit = 0);

}  // namespace aerie
