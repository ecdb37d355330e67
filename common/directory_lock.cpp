#include "common/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace aerie {
namespace {

int open_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  AERIE_CHECK(fd >= 0, "cannot open the directory {}: {}", directory.string(),
              std::strerror(errno));
  return fd;
}

/// False: another holds it.
bool lock(int fd, int operation, const std::filesystem::path& directory) {
  if (::flock(fd, operation) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  fail("cannot lock {}: {}; several processes may write it, so its file system must support flock",
       directory.string(), std::strerror(errno));
}

}  // namespace

DirectoryLock::DirectoryLock(const std::filesystem::path& directory)
    : DirectoryLock(Opened{open_directory(directory)}) {
  lock(fd_, LOCK_EX, directory);
}

std::unique_ptr<DirectoryLock> DirectoryLock::if_free(const std::filesystem::path& directory) {
  std::unique_ptr<DirectoryLock> held(new DirectoryLock(Opened{open_directory(directory)}));
  return lock(held->fd_, LOCK_EX | LOCK_NB, directory) ? std::move(held) : nullptr;
}

DirectoryLock::~DirectoryLock() { ::close(fd_); }

}  // namespace aerie
