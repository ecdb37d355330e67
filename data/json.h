// JSON that keeps the order of keys: chat templates print tools and tool calls, and their bytes
// must be the input's.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace aerie {

using Json = nlohmann::ordered_json;

/// The object in a file; {} where there is no file. Throws Error if it holds anything else.
Json read_json_object(const std::filesystem::path& file);

}  // namespace aerie
