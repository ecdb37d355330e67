// Text input of every kind: plain or compressed, JSON lines or one JSON array.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace aerie {

/// The whole file; .gz and .zst are decompressed. Throws Error naming the file.
std::string read_text(const std::filesystem::path& file);

/// Calls `row(text, line)` for every row of a .jsonl, .ndjson or .json file (each also .gz, .zst):
/// the lines that are not blank, or, where the file is one JSON array, its elements (`line`: where
/// an element begins). `text` is that row's JSON, not yet parsed. Throws Error, naming the file, if
/// there is no row, or if an array does not parse.
void for_each_row(const std::filesystem::path& file,
                  const std::function<void(std::string_view text, int64_t line)>& row);

}  // namespace aerie
