// JSON lines that grow while a command runs and survive its death: every line but the last one is
// whole, and a torn last one is cut off when the file is opened again.
#pragma once
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <unordered_set>

#include "data/json.h"

namespace aerie {

class RowLog {
 public:
  enum Mode { kResume, kReplace };

  /// kResume: reads the ids of the rows that are there. Throws Error for a line that is not a JSON
  /// object with an "id". kReplace: the file appears with the first row.
  RowLog(std::filesystem::path path, Mode mode);

  bool contains(const std::string& id) const { return ids_.count(id) > 0; }
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  /// Appends one line and hands it to the system. Throws Error if that fails (disk full).
  void append(const Json& row);
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void resume();
  void open();

  std::filesystem::path path_;
  std::unordered_set<std::string> ids_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace aerie
