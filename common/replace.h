// A finished directory takes the place of another; a kill at any moment leaves the one or the
// other.
#pragma once
#include <filesystem>

namespace aerie {

/// Gives `made` the name `path`. What had it is exchanged in one step where the file system can
/// (all local ones of Linux), else moved to `path`.old first: see restore_replaced.
/// -> where the old content is now, for the caller to remove; empty: there was none
std::filesystem::path put_in_place(const std::filesystem::path& made,
                                   const std::filesystem::path& path);

/// A kill between two renames leaves the old content as `path`.old and nothing as `path`: gives it
/// its name back. Otherwise nothing happens.
void restore_replaced(const std::filesystem::path& path);

}  // namespace aerie
