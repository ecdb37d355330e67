// TensorBoard's event files: TFRecord frames around protocol-buffer events of scalars. Both are so
// small that they are encoded by hand; the formats are TensorFlow's record_writer.h and
// event.proto.
#pragma once
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aerie {

using Scalars = std::vector<std::pair<std::string, double>>;  ///< tag, value

/// One event file in `directory`, which TensorBoard reads in the order of their names. A run that
/// is resumed begins another file, whose first event says at which step: what a killed session
/// wrote beyond it is then not shown.
class EventFile {
 public:
  /// `step`: the first one that is still to come. Throws Error naming the file.
  EventFile(const std::filesystem::path& directory, int64_t step);
  /// Values of one step, written through to the file. Values that are not finite are written too:
  /// TensorBoard marks them.
  void write(int64_t step, const Scalars& scalars);
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void put(const std::string& event);

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

/// CRC-32C (Castagnoli) of the bytes.
uint32_t crc32c(std::string_view bytes);
/// One TFRecord: length, its masked checksum, the content, its masked checksum.
std::string tf_record(std::string_view content);

}  // namespace aerie
