#include "trainer/run_history.h"

#include <cmath>
#include <sstream>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

using nlohmann::ordered_json;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

double number(const ordered_json& line, const char* key) {
  const auto at = line.find(key);
  return at != line.end() && at->is_number() ? at->get<double>() : kNone;
}

std::vector<double> numbers(const ordered_json& line, const char* key) {
  std::vector<double> values;
  for (const ordered_json& value : line.value(key, ordered_json::array())) {
    values.push_back(value.is_number() ? value.get<double>() : kNone);
  }
  return values;
}

TrainPoint train_point(const ordered_json& line) {
  TrainPoint point{number(line, "step"),
                   number(line, "tokens"),
                   number(line, "loss"),
                   number(line, "tau_sim"),
                   number(line, "lr"),
                   number(line, "grad_norm"),
                   number(line, "tokens_per_second"),
                   number(line, "seconds"),
                   numbers(line, "loss_k"),
                   numbers(line, "acc_k"),
                   {}};
  const ordered_json parts = line.value("step_seconds", ordered_json::object());
  for (const auto& [part, seconds] : parts.items()) {
    point.step_seconds.emplace_back(part, seconds.get<double>());
  }
  return point;
}

EvalPoint eval_point(const ordered_json& line) {
  EvalPoint point{number(line, "step"),
                  number(line, "tokens"),
                  number(line, "loss"),
                  number(line, "tau_sim"),
                  number(line, "acceptance"),
                  number(line, "acceptance_tree"),
                  numbers(line, "loss_k"),
                  numbers(line, "acc_k"),
                  numbers(line, "chain_k"),
                  numbers(line, "rate_by_depth"),
                  {}};
  const ordered_json domains = line.value("domains", ordered_json::object());
  for (const auto& [name, domain] : domains.items()) {
    point.domains.push_back(
        {name, number(domain, "loss"), number(domain, "tau_sim"), number(domain, "acceptance")});
  }
  return point;
}

void read_lines(const fs::path& file, RunHistory& history) {
  const std::string content = read_file(file);
  size_t begin = 0;
  for (int64_t number_of_line = 1;; ++number_of_line) {
    const size_t end = content.find('\n', begin);
    if (end == std::string::npos) return;
    const ordered_json line =
        ordered_json::parse(content.begin() + static_cast<std::ptrdiff_t>(begin),
                            content.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    AERIE_CHECK(line.is_object(), "{}:{}: not a JSON object: is this a run's metrics.jsonl?",
                file.string(), number_of_line);
    if (line.value("kind", "") == "train") history.train.push_back(train_point(line));
    if (line.value("kind", "") == "eval") history.evaluations.push_back(eval_point(line));
    begin = end + 1;
  }
}

double worth(const EvalPoint& point) {
  return std::isnan(point.acceptance) ? point.tau_sim : point.acceptance;
}

}  // namespace

const EvalPoint* RunHistory::best() const {
  const EvalPoint* best = nullptr;
  for (const EvalPoint& point : evaluations) {
    // What was measured otherwise before a run was resumed cannot be compared.
    if (std::isnan(point.acceptance) != std::isnan(evaluations.back().acceptance)) continue;
    if (!best || worth(*best) < worth(point)) best = &point;
  }
  return best;
}

RunHistory read_history(const fs::path& run_dir) {
  RunHistory history;
  history.directory = run_dir;
  history.name = fs::weakly_canonical(run_dir).filename().string();
  AERIE_CHECK(fs::exists(run_dir / "metrics.jsonl"),
              "{} is no run: it has no metrics.jsonl. Name the directory that output.dir named",
              run_dir.string());
  read_lines(run_dir / "metrics.jsonl", history);
  if (fs::exists(run_dir / "config.yaml")) {
    history.settings = settings_of(read_file(run_dir / "config.yaml"));
  }
  if (fs::exists(run_dir / "data.json")) {
    history.data = ordered_json::parse(read_file(run_dir / "data.json"), nullptr, false);
  }
  return history;
}

std::vector<std::pair<std::string, std::string>> settings_of(const std::string& yaml) {
  // Of our own writing: sections, and keys with their values on one line, two blanks in.
  std::vector<std::pair<std::string, std::string>> settings;
  std::istringstream lines(yaml);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(' ');
    if (begin == 0) {
      section = line.substr(0, colon);
    } else {
      const size_t value = line.find_first_not_of(' ', colon + 1);
      settings.emplace_back(section + "." + line.substr(begin, colon - begin),
                            value == std::string::npos ? "" : line.substr(value));
    }
  }
  return settings;
}

}  // namespace aerie
