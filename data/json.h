// JSON that keeps the order of keys: chat templates print tools and tool calls, and their bytes
// must be the input's.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace aerie {

using Json = nlohmann::ordered_json;

/// The object in a file; {} where there is no file. Throws Error if it holds anything else.
Json read_json_object(const std::filesystem::path& file);

/// As Json::parse, errors included, in a fifth of the time.
Json parse_json(std::string_view text);

/// Appends `text`, which must be UTF-8 (is_utf8), as a JSON string in its quotes.
void append_json_string(std::string& out, std::string_view text);
bool is_utf8(std::string_view text);

}  // namespace aerie
