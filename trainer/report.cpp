#include "trainer/report.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

namespace aerie {
namespace {

using nlohmann::ordered_json;

/// Four significant decimals are what a metric is worth.
std::vector<double> rounded(std::vector<double> values) {
  for (double& value : values) value = std::round(value * 1e4) / 1e4;
  return values;
}

double rounded(double value) { return rounded(std::vector<double>{value})[0]; }

void add_metrics(ordered_json& line, const UnrollMetrics& metrics) {
  line["loss"] = rounded(metrics.loss());
  line["loss_k"] = rounded(metrics.loss_by_depth());
  line["acc_k"] = rounded(metrics.accuracy_by_depth());
  line["alpha_k"] = rounded(metrics.alpha_by_depth());
  line["chain_k"] = rounded(metrics.chain_by_depth());
  line["tau_sim"] = rounded(metrics.simulated_acceptance());
  line["out_of_vocab"] = rounded(metrics.out_of_vocab());
  line["pairs"] = metrics.pairs();
}

double per_second(int64_t count, double seconds) {
  return seconds > 0 ? rounded(static_cast<double>(count) / seconds) : 0;
}

}  // namespace

ordered_json train_line(const TrainState& state, const UnrollMetrics& metrics,
                        const StepReport& report) {
  ordered_json line{{"kind", "train"},
                    {"step", state.step},
                    {"epoch", report.epoch},
                    {"tokens", state.tokens},
                    {"supervised_tokens", state.supervised},
                    {"seconds", rounded(state.seconds)},
                    {"lr", report.lr},
                    {"grad_norm", report.grad_norm}};
  add_metrics(line, metrics);
  line["tokens_per_second"] = per_second(metrics.tokens(), report.seconds.total());
  line["supervised_tokens_per_second"] = per_second(metrics.supervised(), report.seconds.total());
  line["step_seconds"] = {{"source", rounded(report.seconds.source)},
                          {"forward", rounded(report.seconds.forward)},
                          {"backward", rounded(report.seconds.backward)},
                          {"wait", rounded(report.seconds.wait)},
                          {"update", rounded(report.seconds.update)}};
  line["skipped_steps"] = state.skipped_steps;
  line["peak_memory_bytes"] = peak_resident_bytes();
  return line;
}

ordered_json eval_line(const TrainState& state, const Evaluation& evaluation) {
  ordered_json line{{"kind", "eval"},
                    {"step", state.step},
                    {"tokens", state.tokens},
                    {"seconds", rounded(state.seconds)},
                    {"eval_seconds", rounded(evaluation.seconds)},
                    {"decoding_seconds", rounded(evaluation.decoding_seconds)}};
  add_metrics(line, evaluation.metrics);
  if (evaluation.acceptance) {
    line["acceptance"] = rounded(evaluation.acceptance->length);
    line["rate_by_depth"] = rounded(evaluation.acceptance->rate_by_depth);
    const std::optional<double>& tree = evaluation.acceptance->tree_length;
    if (tree) line["acceptance_tree"] = rounded(*tree);
  }
  for (const DomainEvaluation& domain : evaluation.domains) {
    ordered_json& place = line["domains"][domain.name];
    add_metrics(place, domain.metrics);
    if (domain.acceptance) place["acceptance"] = rounded(domain.acceptance->length);
  }
  return line;
}

std::string progress_note(const UnrollMetrics& metrics, const StepReport& report) {
  return fmt::format("loss {:.3f}  tau {:.2f}  {:.0f} tok/s", metrics.loss(),
                     metrics.simulated_acceptance(),
                     per_second(metrics.tokens(), report.seconds.total()));
}

std::string describe(const Evaluation& evaluation) {
  std::string text =
      fmt::format("tau_sim {:.2f} (share of chains right by depth: {:.2f}), loss {:.3f}",
                  evaluation.metrics.simulated_acceptance(),
                  fmt::join(evaluation.metrics.chain_by_depth(), " "), evaluation.metrics.loss());
  if (evaluation.acceptance) {
    text += fmt::format(", acceptance length {:.2f} measured", evaluation.acceptance->length);
    const std::optional<double>& tree = evaluation.acceptance->tree_length;
    if (tree) text += fmt::format(" ({:.2f} in trees)", *tree);
  }
  for (const DomainEvaluation& domain : evaluation.domains) {
    text += fmt::format("; {}: tau_sim {:.2f}", domain.name.empty() ? "(no domain)" : domain.name,
                        domain.metrics.simulated_acceptance());
    if (domain.acceptance) text += fmt::format(", measured {:.2f}", domain.acceptance->length);
  }
  return text;
}

}  // namespace aerie
