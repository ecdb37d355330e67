// What a run's directory says about how it went: metrics.jsonl, config.yaml, data.json.
#pragma once
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace aerie {

/// One line of metrics.jsonl. What a line does not have is not a number.
struct TrainPoint {
  double step = 0, tokens = 0;
  double loss, tau_sim, lr, grad_norm, tokens_per_second, seconds;
  std::vector<double> loss_k, acc_k;
  std::vector<std::pair<std::string, double>> step_seconds;  ///< source, forward, backward, update
};

struct DomainPoint {
  std::string name;
  double loss, tau_sim, acceptance;
};

struct EvalPoint {
  double step = 0, tokens = 0;
  double loss, tau_sim, acceptance, acceptance_tree;
  std::vector<double> loss_k, acc_k, chain_k, rate_by_depth;
  std::vector<DomainPoint> domains;
};

struct RunHistory {
  std::string name;  ///< the directory's
  std::filesystem::path directory;
  std::vector<TrainPoint> train;
  std::vector<EvalPoint> evaluations;
  std::vector<std::pair<std::string, std::string>> settings;  ///< "optim.lr", its value
  nlohmann::ordered_json data;  ///< data/prepare_report.h; null where the run has none

  /// The evaluation with the largest measured acceptance, else tau_sim; none: no evaluation.
  const EvalPoint* best() const;
};

/// Throws Error if there is no metrics.jsonl, or a line of it is no JSON object (file and line). A
/// last line without its end, as a kill leaves it, is passed over.
RunHistory read_history(const std::filesystem::path& run_dir);

/// "section.key", value of a resolved configuration, in its order.
std::vector<std::pair<std::string, std::string>> settings_of(const std::string& yaml);

}  // namespace aerie
