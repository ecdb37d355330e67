#include "decoding/prompts.h"

#include <unordered_map>

#include "common/files.h"
#include "data/text_files.h"

namespace aerie {

std::vector<PromptRow> read_prompts(const std::filesystem::path& file, int64_t limit) {
  std::vector<PromptRow> rows;
  std::unordered_map<std::string, int> seen;
  const std::filesystem::path directory = std::filesystem::absolute(file).parent_path();
  for_each_row(file, [&](std::string_view text, int64_t line) {
    if (limit > 0 && static_cast<int64_t>(rows.size()) >= limit) return;
    PromptRow row;
    try {
      row.conversation = parse_conversation(text, directory);
    } catch (const RowError& error) {
      fail("{}:{}: {}", file.string(), line, error.what());
    }
    row.id = row.conversation.id.empty() ? "row-" + hash_hex(text) : row.conversation.id;
    // Ids decide what is done already: a second row of the same id gets one of its own.
    const int count = ++seen[row.id];
    if (count > 1) row.id += fmt::format("#{}", count);
    rows.push_back(std::move(row));
  });
  return rows;
}

}  // namespace aerie
