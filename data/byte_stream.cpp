#include "data/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "common/error.h"

namespace aerie {
namespace {

namespace fs = std::filesystem;

class PlainStream final : public ByteStream {
 public:
  explicit PlainStream(const fs::path& file)
      : name_(file.string()), fd_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)) {
    AERIE_CHECK(fd_ >= 0, "cannot open {} for reading: {}", name_, std::strerror(errno));
  }
  ~PlainStream() override { ::close(fd_); }

  size_t read(char* to, size_t size) override {
    for (;;) {
      const ssize_t got = ::read(fd_, to, size);
      if (got < 0 && errno == EINTR) continue;
      AERIE_CHECK(got >= 0, "cannot read {}: {}", name_, std::strerror(errno));
      position_ += got;
      return static_cast<size_t>(got);
    }
  }
  int64_t position() const override { return position_; }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  int fd_;
  int64_t position_ = 0;
};

class GzipStream final : public ByteStream {
 public:
  explicit GzipStream(const fs::path& file)
      : name_(file.string()), file_(gzopen(file.c_str(), "rb")) {
    AERIE_CHECK(file_ != nullptr, "cannot open {} for reading: {}", name_, std::strerror(errno));
    gzbuffer(file_.get(), 1 << 17);
    AERIE_CHECK(!gzdirect(file_.get()), "{}: cannot decompress: it is no gzip file", name_);
  }

  size_t read(char* to, size_t size) override {
    const int got = gzread(file_.get(), to, static_cast<unsigned>(size));
    int code = Z_OK;
    const char* message = gzerror(file_.get(), &code);
    // A file that ends inside a member gives what it has, and this.
    AERIE_CHECK(got >= 0 && code != Z_BUF_ERROR, "{}: cannot decompress: {}", name_, message);
    return static_cast<size_t>(got);
  }
  int64_t position() const override { return gzoffset(file_.get()); }

 private:
  struct Close {
    void operator()(gzFile file) const { gzclose(file); }
  };

  std::string name_;
  std::unique_ptr<gzFile_s, Close> file_;  // also where the constructor throws
};

class ZstdStream final : public ByteStream {
 public:
  explicit ZstdStream(const fs::path& file)
      : input_(file), context_(ZSTD_createDStream()), buffer_(ZSTD_DStreamInSize()) {}
  ~ZstdStream() override { ZSTD_freeDStream(context_); }

  size_t read(char* to, size_t size) override {
    ZSTD_outBuffer out{to, size, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size) {
        in_ = {buffer_.data(), input_.read(buffer_.data(), buffer_.size()), 0};
        if (in_.size == 0) {
          AERIE_CHECK(!inside_,
                      "{}: cannot decompress: the file ends inside a frame; is it cut off?",
                      input_.name());
          return 0;
        }
      }
      const size_t left = ZSTD_decompressStream(context_, &out, &in_);
      AERIE_CHECK(!ZSTD_isError(left), "{}: cannot decompress: {}", input_.name(),
                  ZSTD_getErrorName(left));
      inside_ = left != 0;
    }
    return out.pos;
  }
  int64_t position() const override { return input_.position(); }

 private:
  PlainStream input_;
  ZSTD_DStream* context_;
  std::vector<char> buffer_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool inside_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> open_stream(const fs::path& file) {
  AERIE_CHECK(fs::exists(file), "{} does not exist", file.string());
  AERIE_CHECK(fs::is_regular_file(file), "{} is not a file", file.string());
  if (file.extension() == ".gz") return std::make_unique<GzipStream>(file);
  if (file.extension() == ".zst") return std::make_unique<ZstdStream>(file);
  return std::make_unique<PlainStream>(file);
}

}  // namespace aerie
