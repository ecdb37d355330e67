#include "common/replace.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

/// -> false where the file system cannot
bool exchange(const fs::path& one, const fs::path& other) {
  if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0)
    return true;
  AERIE_CHECK(errno == EINVAL || errno == ENOSYS, "cannot exchange {} and {}: {}", one.string(),
              other.string(), std::strerror(errno));
  return false;
}

}  // namespace

fs::path put_in_place(const fs::path& made, const fs::path& path) {
  if (!fs::exists(path)) {
    fs::rename(made, path);
    return {};
  }
  if (exchange(made, path)) return made;
  const fs::path replaced = beside(path, ".old");
  fs::remove_all(replaced);
  fs::rename(path, replaced);
  fs::rename(made, path);
  return replaced;
}

void restore_replaced(const fs::path& path) {
  std::error_code none;  // nothing to restore, or another process was faster
  if (!fs::exists(path, none)) fs::rename(beside(path, ".old"), path, none);
}

}  // namespace aerie
