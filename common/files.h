// Files that are there whole or not at all.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace aerie {

namespace fs = std::filesystem;

/// The whole file. Throws Error naming the path.
std::string read_file(const fs::path& path);

/// Writes to `path`.tmp, fsyncs, renames. On failure (disk full included) the old file is
/// untouched, the temporary one is removed, and Error says what was wrong and, for a full disk, how
/// many bytes were wanted.
void write_file_atomic(const fs::path& path, std::string_view bytes);
/// The same for a file given in pieces.
void write_file_atomic(const fs::path& path, std::span<const std::string_view> pieces);

/// Makes a directory appear whole: `fill` writes into `path`.tmp, which is then synced and renamed
/// to `path` (an existing `path` is replaced). On failure nothing is left behind and Error is
/// thrown.
void write_directory_atomic(const fs::path& path, const std::function<void(const fs::path&)>& fill);

/// Makes the directory, and throws Error unless files can be written there: before hours of work
/// whose result is to go into it. `key` is what names it, such as "--output".
void make_output_directory(const fs::path& path, std::string_view key);

/// Gives a file that was written in place its final name: fsync, rename, fsync of the directory.
void publish_file(const fs::path& temporary, const fs::path& path);

/// `path` with `suffix` behind its name: shard.h5 -> shard.h5.tmp.
fs::path beside(fs::path path, std::string_view suffix);

/// Points the symlink `link` at `target` (relative), atomically.
void replace_symlink(const fs::path& link, const std::string& target);

/// 64-bit hash of bytes (FNV-1a), for keys and fingerprints; not for security.
uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 14695981039346656037ull);
/// The same as 16 hex digits.
std::string hash_hex(std::string_view bytes);
/// A large file's content in 16 hex digits, at memory speed: FNV-1a over 64-bit words in four
/// interleaved lanes, the rest of the bytes and the size folded in. Finds damage; no protection
/// from forgery.
std::string hash_file(const fs::path& path);

/// A read-only memory map. Pages can be dropped again once their content has been copied.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  /// Tells the kernel that [offset, offset + length) is not needed resident any more.
  void drop(size_t offset, size_t length) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace aerie
