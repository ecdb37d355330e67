// What a directory (or a draft's .gguf) is, and whether it is sound.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace aerie::cli {

/// {"kind": "target" | "draft" | "checkpoint" | "run" | "token shards" | "hidden-state store",
/// ...facts}: everything that its reader checks has been checked. Throws Error for what is damaged,
/// and for a directory that is none of these.
nlohmann::ordered_json inspect(const std::filesystem::path& directory);

}  // namespace aerie::cli
