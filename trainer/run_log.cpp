#include "trainer/run_log.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/log.h"

namespace aerie {
namespace {

using nlohmann::ordered_json;

void add_scalars(const std::string& tag, const ordered_json& value, Scalars& scalars) {
  if (value.is_number()) scalars.emplace_back(tag, value.get<double>());
  if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) {
      add_scalars(fmt::format("{}/{}", tag, i), value[i], scalars);
    }
  }
  if (value.is_object()) {
    for (const auto& [name, inner] : value.items()) add_scalars(tag + "/" + name, inner, scalars);
  }
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, int64_t position)
    : path_(path), position_(position) {
  std::error_code missing;
  const auto found = std::filesystem::file_size(path, missing);
  const int64_t size = missing ? 0 : static_cast<int64_t>(found);
  if (size > position) std::filesystem::resize_file(path, position);
  if (size < position) {
    log_warning(
        fmt::format("{} has {} bytes where the checkpoint knew {}: what earlier steps wrote is "
                    "lost, to curves and report too. The run goes on behind what is there",
                    path.string(), size, position));
    position_ = size;
  }
  file_ = std::fopen(path.c_str(), "a");
  AERIE_CHECK(file_, "{}: cannot be opened for writing: {}", path.string(), std::strerror(errno));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

void MetricsFile::write(const std::string& json_line) {
  const std::string line = json_line + "\n";
  const bool whole = std::fwrite(line.data(), 1, line.size(), file_) == line.size();
  AERIE_CHECK(whole && std::fflush(file_) == 0,
              "{}: cannot be written ({}); free some space and start again, the run resumes",
              path_.string(), std::strerror(errno));
  position_ += static_cast<int64_t>(line.size());
}

RunLog::RunLog(const std::filesystem::path& directory, int64_t step, int64_t position)
    : metrics_(directory / "metrics.jsonl", position),
      events_(directory / "tensorboard", step + 1) {}

void RunLog::write(const ordered_json& line) {
  metrics_.write(line.dump());
  events_.write(line.at("step"), scalars_of(line));
}

Scalars scalars_of(const ordered_json& line) {
  Scalars scalars;
  const std::string kind = line.at("kind");
  for (const auto& [name, value] : line.items()) {
    if (name != "step") add_scalars(kind + "/" + name, value, scalars);
  }
  return scalars;
}

}  // namespace aerie
