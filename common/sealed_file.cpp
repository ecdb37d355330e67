#include "common/sealed_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

void sync(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  AERIE_CHECK(fd >= 0, "cannot open {} for syncing: {}", path.string(), std::strerror(errno));
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  AERIE_CHECK(result == 0, "cannot sync {}: {}", path.string(), std::strerror(error));
}

}  // namespace

void publish_file(const fs::path& temporary, const fs::path& path) {
  sync(temporary);
  fs::rename(temporary, path);
  sync(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

std::string hash_file(const fs::path& path) {
  constexpr uint64_t kPrime = 1099511628211ull;
  constexpr size_t kLanes = 4, kStride = kLanes * sizeof(uint64_t);
  const MappedFile file(path);
  std::array<uint64_t, kLanes> lanes{1, 2, 3, 4};
  size_t at = 0;
  for (; at + kStride <= file.size(); at += kStride) {
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

}  // namespace aerie
