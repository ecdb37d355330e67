// What a run writes while it trains: metrics.jsonl for scripts and for report.html, and the same
// values as TensorBoard's event files.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "trainer/event_file.h"

namespace aerie {

/// metrics.jsonl: one JSON object a line, appended and flushed line by line.
class MetricsFile {
 public:
  /// Opens for appending and cuts the file to `position` bytes, so that a resumed run has no line
  /// twice. Warns of a file that is shorter.
  MetricsFile(const std::filesystem::path& path, int64_t position);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  void write(const std::string& json_line);
  int64_t position() const { return position_; }

 private:
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
  int64_t position_ = 0;
};

class RunLog {
 public:
  /// A run in `directory` that goes on after `step` steps, with `position` bytes of metrics.jsonl.
  RunLog(const std::filesystem::path& directory, int64_t step, int64_t position);

  /// An object with "kind" and "step" (trainer/report.h).
  void write(const nlohmann::ordered_json& line);
  int64_t position() const { return metrics_.position(); }

 private:
  MetricsFile metrics_;
  EventFile events_;
};

/// The numbers of a line as TensorBoard shows them: "train/loss", "train/loss_k/0", ...
Scalars scalars_of(const nlohmann::ordered_json& line);

}  // namespace aerie
