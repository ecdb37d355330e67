#include "data/text_files.h"

#include <algorithm>
#include <cstdint>

#include "common/error.h"
#include "common/files.h"
#include "data/hf_text.h"

namespace aerie {
namespace {

constexpr std::string_view kBlank = " \t\r\n";

/// Splits a JSON array at its top-level commas without parsing the elements: a broken element is
/// then one bad row, not a broken file.
class ArrayScanner {
 public:
  ArrayScanner(std::string_view text, size_t begin, const fs::path& file)
      : text_(text), at_(begin + 1), file_(file) {
    line_ = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
  }

  /// The next element and its line; empty at the end.
  std::pair<std::string_view, int64_t> next() {
    skip_blanks();
    const size_t begin = at_;
    const int64_t line = line_;
    const char stop = skip_element();
    const std::string_view element = text_.substr(begin, at_ - begin);
    if (stop == ',') ++at_;
    if (stop == ']' && element.empty()) return {{}, line};
    return {element, line};
  }

 private:
  void skip_blanks() {
    for (; at_ < text_.size() && kBlank.find(text_[at_]) != kBlank.npos; ++at_)
      line_ += text_[at_] == '\n';
  }

  /// Stops at the comma or bracket that ends the element and returns it.
  char skip_element() {
    int depth = 0;
    for (bool quoted = false; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      line_ += c == '\n';
      if (quoted) {
        if (c == '\\') ++at_;
        quoted = c != '"';
        continue;
      }
      if (depth == 0 && (c == ',' || c == ']')) return c;
      quoted = c == '"';
      depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    }
    fail("{}: the JSON array that begins the file is not closed; is the file truncated?",
         file_.string());
  }

  std::string_view text_;
  size_t at_;
  int64_t line_ = 1;
  const fs::path& file_;
};

bool is_compressed(const fs::path& file) {
  return file.extension() == ".gz" || file.extension() == ".zst";
}

/// A file's text: mapped, or decompressed into memory.
class Content {
 public:
  explicit Content(const fs::path& file) {
    if (is_compressed(file)) {
      unpacked_ = read_text(file);
    } else {
      map_.emplace(file);
    }
  }
  std::string_view text() const {
    if (!map_) return unpacked_;
    return {reinterpret_cast<const char*>(map_->data()), map_->size()};
  }

 private:
  std::string unpacked_;
  std::optional<MappedFile> map_;
};

int64_t rows_of_lines(std::string_view text,
                      const std::function<void(std::string_view, int64_t)>& row) {
  int64_t line = 0, rows = 0;
  while (!text.empty()) {
    const size_t length = std::min(text.find('\n'), text.size());
    const std::string_view content = text.substr(0, length);
    ++line;
    if (content.find_first_not_of(kBlank) != content.npos) {
      row(content, line);
      ++rows;
    }
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return rows;
}

}  // namespace

std::string read_text(const fs::path& file) {
  if (!is_compressed(file)) return read_file(file);
  AERIE_CHECK(fs::exists(file), "{} does not exist", file.string());
  const std::string name = file.string();
  HfBytes bytes{};
  hf_check(hf_decompress(name.data(), name.size(), &bytes), name + ": cannot decompress");
  return hf_string(bytes);
}

void for_each_row(const fs::path& file, const std::function<void(std::string_view, int64_t)>& row) {
  const Content content(file);
  std::string_view text = content.text();
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const size_t first = text.find_first_not_of(kBlank);
  int64_t rows = 0;
  if (first != text.npos && text[first] == '[') {
    ArrayScanner scanner(text, first, file);
    for (auto [element, line] = scanner.next(); !element.empty();
         std::tie(element, line) = scanner.next(), ++rows) {
      row(element, line);
    }
  } else {
    rows = rows_of_lines(text, row);
  }
  AERIE_CHECK(rows > 0, "{} has no rows: give a file of JSON lines, one conversation each",
              file.string());
}

}  // namespace aerie
