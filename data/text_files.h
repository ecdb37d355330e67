// Text input of every kind: plain or compressed, JSON lines or one JSON array.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "data/byte_stream.h"

namespace aerie {

/// The whole file; .gz and .zst are decompressed. Throws Error naming the file.
std::string read_text(const std::filesystem::path& file);

struct TextRow {
  std::string_view text;  ///< its JSON, not yet parsed; until the next row is asked for
  int64_t line = 0;       ///< where it begins, from 1
};

/// The rows of a .jsonl, .ndjson or .json file (each also .gz, .zst): the lines that are not blank,
/// or, where the file is one JSON array, its elements, cut at their commas without parsing them: a
/// broken element is then one bad row, not a broken file. Holds one row and a block of the file in
/// memory.
class RowReader {
 public:
  explicit RowReader(const std::filesystem::path& file);

  /// Nothing at the end. Throws Error, naming the file, if there was no row at all, if an array is
  /// not closed, or if something follows it.
  std::optional<TextRow> next();
  /// Bytes of the file on disk that have been read.
  int64_t position() const { return stream_->position(); }

 private:
  std::string_view ahead() const { return std::string_view(buffer_).substr(begin_); }
  bool refill();
  void begin();
  bool skip_blanks();
  std::optional<TextRow> next_line();
  std::optional<TextRow> next_element();
  std::optional<TextRow> end_of_array();
  [[noreturn]] void fail_unclosed() const;
  size_t element_size();
  void take(size_t size);

  std::filesystem::path file_;
  std::unique_ptr<ByteStream> stream_;
  std::string buffer_;  // what was read; [begin_, end) is still ahead
  size_t begin_ = 0;
  int64_t line_ = 1, rows_ = 0;
  bool begun_ = false, array_ = false, closed_ = false;
};

/// Calls `row(text, line)` for every row of a file.
void for_each_row(const std::filesystem::path& file,
                  const std::function<void(std::string_view text, int64_t line)>& row);

}  // namespace aerie
