// One process at a time in a directory.
#pragma once
#include <filesystem>
#include <memory>

namespace aerie {

/// Ends with the object, or with the process.
class DirectoryLock {
 public:
  /// Waits until no other holds it. Throws Error: no such directory, a file system without flock.
  explicit DirectoryLock(const std::filesystem::path& directory);
  /// Null where another holds it. Throws Error likewise.
  static std::unique_ptr<DirectoryLock> if_free(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  struct Opened {
    int fd;
  };
  explicit DirectoryLock(Opened directory) : fd_(directory.fd) {}

  int fd_;
};

}  // namespace aerie
