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

std::string train_line(const TrainState& state, const UnrollMetrics& metrics,
                       const StepReport& report) {
  ordered_json line{{"kind", "train"},
                    {"step", state.step},
                    {"epoch", report.epoch},
                    {"tokens", state.tokens},
                    {"supervised", state.supervised},
                    {"seconds", rounded(state.seconds)},
                    {"lr", report.lr},
                    {"grad_norm", report.grad_norm}};
  add_metrics(line, metrics);
  line["tokens_per_s"] = per_second(metrics.tokens(), report.seconds.total());
  line["supervised_per_s"] = per_second(metrics.supervised(), report.seconds.total());
  line["step_seconds"] = {{"source", rounded(report.seconds.source)},
                          {"forward", rounded(report.seconds.forward)},
                          {"backward", rounded(report.seconds.backward)},
                          {"wait", rounded(report.seconds.wait)},
                          {"update", rounded(report.seconds.update)}};
  line["skipped_steps"] = state.skipped_steps;
  line["peak_rss_mb"] = peak_resident_bytes() >> 20;
  return line.dump();
}

std::string eval_line(const TrainState& state, const Evaluation& evaluation) {
  ordered_json line{{"kind", "eval"},
                    {"step", state.step},
                    {"tokens", state.tokens},
                    {"seconds", rounded(state.seconds)},
                    {"eval_seconds", rounded(evaluation.seconds)}};
  add_metrics(line, evaluation.metrics);
  if (evaluation.acceptance) {
    line["acceptance"] = rounded(evaluation.acceptance->length);
    line["rate_by_depth"] = rounded(evaluation.acceptance->rate_by_depth);
  }
  return line.dump();
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
  }
  return text;
}

}  // namespace aerie
