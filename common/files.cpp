#include "common/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/error.h"
#include "common/replace.h"

namespace aerie {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, const char* purpose)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    AERIE_CHECK(fd_ >= 0, "cannot open {} for {}: {}", path.string(), purpose,
                std::strerror(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void write_all(int fd, const fs::path& path, std::string_view bytes) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = ::write(fd, bytes.data() + written, bytes.size() - written);
    if (n < 0 && errno == EINTR) continue;
    AERIE_CHECK(n >= 0, "cannot write {}: {} ({} of {} bytes written; free {} bytes and run again)",
                path.string(), std::strerror(errno), written, bytes.size(), bytes.size() - written);
    written += static_cast<size_t>(n);
  }
}

void sync(const fs::path& path, int flags) {
  const Descriptor file(path, flags, "syncing");
  AERIE_CHECK(::fsync(file.get()) == 0, "cannot sync {}: {}", path.string(), std::strerror(errno));
}

void sync_directory(const fs::path& path) { sync(path, O_RDONLY | O_DIRECTORY); }

/// "draft/" -> "draft": what stands beside it has its name. Throws Error for a path without a name.
fs::path without_slash(const fs::path& path) {
  const fs::path named = path.has_filename() ? path : path.parent_path();
  AERIE_CHECK(named.has_filename() && named.filename() != "." && named.filename() != "..",
              "{} cannot be replaced as a whole: name a directory of its own", path.string());
  return named;
}

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

std::string read_file(const fs::path& path) {
  AERIE_CHECK(fs::exists(path), "{} does not exist", path.string());
  AERIE_CHECK(fs::is_regular_file(path), "{} is not a file", path.string());
  const Descriptor file(path, O_RDONLY, "reading");
  std::string content(fs::file_size(path), '\0');
  size_t got = 0;
  while (got < content.size()) {
    const ssize_t n = ::read(file.get(), content.data() + got, content.size() - got);
    if (n < 0 && errno == EINTR) continue;
    AERIE_CHECK(n >= 0, "cannot read {}: {}", path.string(), std::strerror(errno));
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  content.resize(got);
  return content;
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  write_file_atomic(path, std::span(&bytes, 1));
}

void write_file_atomic(const fs::path& path, std::span<const std::string_view> pieces) {
  const fs::path temporary = beside(path, ".tmp");
  try {
    {
      const Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC, "writing");
      for (const std::string_view bytes : pieces) write_all(file.get(), temporary, bytes);
      AERIE_CHECK(::fsync(file.get()) == 0, "cannot sync {}: {}", temporary.string(),
                  std::strerror(errno));
    }
    fs::rename(temporary, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
  sync_directory(parent_of(path));
}

void make_output_directory(const fs::path& path, std::string_view key) {
  std::error_code error;
  fs::create_directories(path, error);
  AERIE_CHECK(!error && fs::is_directory(path),
              "{} {}: the directory cannot be made ({}): name another", key, path.string(),
              error ? error.message() : "a file has this name");
  AERIE_CHECK(::access(path.c_str(), W_OK | X_OK) == 0,
              "{} {}: nothing can be written there ({}): name another", key, path.string(),
              std::strerror(errno));
}

void write_directory_atomic(const fs::path& given,
                            const std::function<void(const fs::path&)>& fill) {
  const fs::path path = without_slash(given);
  const fs::path temporary = beside(path, ".tmp");
  fs::path replaced;
  restore_replaced(path);
  fs::remove_all(temporary);
  try {
    fs::create_directories(temporary);
    fill(temporary);
    for (const auto& entry : fs::recursive_directory_iterator(temporary)) {
      if (entry.is_regular_file()) sync(entry.path(), O_RDONLY);
      if (entry.is_directory()) sync_directory(entry.path());
    }
    sync_directory(temporary);
    replaced = put_in_place(temporary, path);
  } catch (...) {
    restore_replaced(path);
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  sync_directory(parent_of(path));
  if (!replaced.empty()) fs::remove_all(replaced);
}

void publish_file(const fs::path& temporary, const fs::path& path) {
  sync(temporary, O_RDONLY);
  fs::rename(temporary, path);
  sync_directory(parent_of(path));
}

fs::path beside(fs::path path, std::string_view suffix) {
  path += suffix;
  return path;
}

void replace_symlink(const fs::path& link, const std::string& target) {
  const fs::path temporary = beside(link, ".tmp");
  fs::remove(temporary);
  fs::create_symlink(target, temporary);
  fs::rename(temporary, link);
  sync_directory(parent_of(link));
}

uint64_t hash_bytes(std::string_view bytes, uint64_t seed) {
  for (const char c : bytes) seed = (seed ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  return seed;
}

std::string hash_hex(std::string_view bytes) { return fmt::format("{:016x}", hash_bytes(bytes)); }

std::string hash_file(const fs::path& path) {
  constexpr uint64_t kPrime = 1099511628211ull;
  constexpr size_t kLanes = 4, kStride = kLanes * sizeof(uint64_t);
  constexpr size_t kDropBytes = size_t{8} << 20;  // a shard must not look like memory in use
  const MappedFile file(path);
  std::array<uint64_t, kLanes> lanes{1, 2, 3, 4};
  size_t at = 0;
  for (; at + kStride <= file.size(); at += kStride) {
    if (at % kDropBytes == 0 && at > 0) file.drop(at - kDropBytes, kDropBytes);
    std::array<uint64_t, kLanes> words;
    std::memcpy(words.data(), file.data() + at, kStride);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      // The rotation brings the upper bits, which a product never moves down, back into play.
      lanes[lane] = std::rotl((lanes[lane] ^ words[lane]) * kPrime, 29);
    }
  }
  std::string rest(reinterpret_cast<const char*>(lanes.data()), kStride);
  rest.append(reinterpret_cast<const char*>(file.data()) + at, file.size() - at);
  return hash_hex(rest + fmt::format(" {}", file.size()));
}

MappedFile::MappedFile(const fs::path& path) {
  AERIE_CHECK(fs::exists(path), "{} does not exist", path.string());
  const Descriptor file(path, O_RDONLY, "mapping");
  size_ = fs::file_size(path);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  AERIE_CHECK(mapped != MAP_FAILED, "cannot map {}: {}", path.string(), std::strerror(errno));
  data_ = static_cast<const uint8_t*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<uint8_t*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::drop(size_t offset, size_t length) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = (offset + length) / page * page;
  if (end > begin) ::madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace aerie
