#include "decoding/row_log.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"

namespace aerie {

RowLog::RowLog(std::filesystem::path path, Mode mode) : path_(std::move(path)) {
  if (path_.has_parent_path()) std::filesystem::create_directories(path_.parent_path());
  if (mode == kReplace) {
    std::filesystem::remove(path_);
  } else if (std::filesystem::exists(path_)) {
    resume();
  }
}

void RowLog::resume() {
  const std::string text = read_file(path_);
  size_t begin = 0;
  for (int64_t line = 1; begin < text.size(); ++line) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const Json row = Json::parse(text.begin() + begin, text.begin() + end, nullptr, false);
    AERIE_CHECK(
        row.is_object() && row.contains("id") && row["id"].is_string(),
        "{}:{}: this is not a row that this command wrote; move the file away to start anew",
        path_.string(), line);
    ids_.insert(row["id"].get<std::string>());
    begin = end + 1;
  }
  if (begin < text.size()) {
    log_warning(fmt::format("{}: the last row was torn and is made again", path_.string()));
    std::filesystem::resize_file(path_, begin);
  }
}

void RowLog::open() {
  file_.reset(std::fopen(path_.c_str(), "ab"));
  AERIE_CHECK(file_, "cannot write {}: {}", path_.string(), std::strerror(errno));
}

void RowLog::append(const Json& row) {
  if (!file_) open();
  const std::string line = row.dump() + "\n";
  const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size() &&
                       std::fflush(file_.get()) == 0;
  AERIE_CHECK(
      written,
      "cannot append {} bytes to {}: {}; free some space and run the command again, it goes "
      "on where it stopped",
      line.size(), path_.string(), std::strerror(errno));
  ids_.insert(row["id"].get<std::string>());
}

}  // namespace aerie
