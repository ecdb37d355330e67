// Large files that are written in place and then never again: they get their name once they are
// whole, and are known by their checksum from then on.
#pragma once
#include <filesystem>
#include <string>

namespace aerie {

/// Gives `temporary` its final name: fsync, rename, fsync of the directory.
void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path);

/// A file's content in 16 hex digits, at memory speed: FNV-1a over 64-bit words in four interleaved
/// lanes, the rest of the bytes and the size folded in. Finds damage; no protection from forgery.
std::string hash_file(const std::filesystem::path& path);

}  // namespace aerie
