// A file's bytes in order, decompressed on the way: memory does not grow with the file.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>

namespace aerie {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Up to `size` bytes; 0 at the end of the file. Throws Error naming a file that is cut off or
  /// damaged.
  virtual size_t read(char* to, size_t size) = 0;
  /// How much of the file itself has been read, of its size on disk: for progress.
  virtual int64_t position() const = 0;
};

/// By its extension: .gz and .zst are decompressed (several members or frames one after the other
/// are one text), others are read as they are. Throws Error if there is no such file.
std::unique_ptr<ByteStream> open_stream(const std::filesystem::path& file);

}  // namespace aerie
