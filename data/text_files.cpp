#include "data/text_files.h"

#include <algorithm>
#include <cstdint>

#include "common/error.h"

namespace aerie {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlank = " \t\r\n";
constexpr size_t kBlock = size_t{1} << 20;

}  // namespace

std::string read_text(const fs::path& file) {
  const std::unique_ptr<ByteStream> stream = open_stream(file);
  std::string text;
  for (;;) {
    const size_t size = text.size();
    text.resize(size + kBlock);
    const size_t got = stream->read(text.data() + size, kBlock);
    text.resize(size + got);
    if (got == 0) return text;
  }
}

RowReader::RowReader(const fs::path& file) : file_(file), stream_(open_stream(file)) {}

bool RowReader::refill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t size = buffer_.size();
  buffer_.resize(size + kBlock);
  const size_t got = stream_->read(buffer_.data() + size, kBlock);
  buffer_.resize(size + got);
  return got > 0;
}

/// What has been dealt with; counts its lines.
void RowReader::take(size_t size) {
  const auto from = buffer_.begin() + static_cast<std::ptrdiff_t>(begin_);
  line_ += std::count(from, from + static_cast<std::ptrdiff_t>(size), '\n');
  begin_ += size;
}

/// False at the end of the file.
bool RowReader::skip_blanks() {
  for (;;) {
    const size_t blanks = ahead().find_first_not_of(kBlank);
    take(std::min(blanks, ahead().size()));
    if (blanks != std::string_view::npos) return true;
    if (!refill()) return false;
  }
}

void RowReader::begin() {
  begun_ = true;
  while (ahead().size() < 3 && refill()) {
  }
  if (ahead().starts_with("\xEF\xBB\xBF")) take(3);
  if (!skip_blanks() || ahead().front() != '[') return;
  array_ = true;
  take(1);
}

std::optional<TextRow> RowReader::next() {
  if (!begun_) begin();
  const std::optional<TextRow> row = array_ ? next_element() : next_line();
  rows_ += row.has_value();
  AERIE_CHECK(row || rows_ > 0, "{} has no rows: give a file of JSON lines, one conversation each",
              file_.string());
  return row;
}

std::optional<TextRow> RowReader::next_line() {
  if (!skip_blanks()) return std::nullopt;
  const int64_t line = line_;
  size_t seen = 0, end;
  while ((end = ahead().find('\n', seen)) == std::string_view::npos) {
    seen = ahead().size();
    if (refill()) continue;
    end = seen;
    break;
  }
  const std::string_view text = ahead().substr(0, end);
  take(std::min(end + 1, ahead().size()));
  return TextRow{text.substr(0, text.find_last_not_of(kBlank) + 1), line};
}

std::optional<TextRow> RowReader::next_element() {
  if (closed_) return end_of_array();
  if (!skip_blanks()) fail_unclosed();
  if (ahead().front() == ']') {
    take(1);
    return end_of_array();
  }
  const int64_t line = line_;
  const size_t size = element_size();
  const std::string_view text = ahead().substr(0, size);
  closed_ = ahead()[size] == ']';
  take(size + 1);
  return TextRow{text.substr(0, text.find_last_not_of(kBlank) + 1), line};
}

/// Two arrays written one after the other would otherwise lose the second without a word.
std::optional<TextRow> RowReader::end_of_array() {
  closed_ = true;
  AERIE_CHECK(!skip_blanks(),
              "{}:{}: text after the JSON array that begins the file: give one array, or JSON "
              "lines without brackets around them",
              file_.string(), line_);
  return std::nullopt;
}

void RowReader::fail_unclosed() const {
  fail("{}: the JSON array that begins the file is not closed; is the file truncated?",
       file_.string());
}

/// Bytes up to the comma or bracket that ends the element.
size_t RowReader::element_size() {
  int depth = 0;
  bool quoted = false, escaped = false;
  for (size_t at = 0;; ++at) {
    if (at == ahead().size() && !refill()) fail_unclosed();
    const char c = ahead()[at];
    if (quoted) {
      quoted = escaped || c != '"';
      escaped = !escaped && c == '\\';
      continue;
    }
    if (depth == 0 && (c == ',' || c == ']')) return at;
    quoted = c == '"';
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
  }
}

void for_each_row(const fs::path& file, const std::function<void(std::string_view, int64_t)>& row) {
  RowReader reader(file);
  while (const std::optional<TextRow> next = reader.next()) row(next->text, next->line);
}

}  // namespace aerie
