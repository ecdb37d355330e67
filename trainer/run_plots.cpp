#include "trainer/run_plots.h"

#include <cmath>

#include "pages/line_plot.h"
#include "pages/page.h"

namespace aerie {
namespace {

using pages::Curve;
using pages::line_plot;
using pages::Point;

constexpr size_t kPoints = 120;  // means of neighbours: single steps are noise

template <typename Of, typename Value>
std::vector<Point> points_of(const std::vector<Of>& line, double Of::*x, const Value& value) {
  std::vector<Point> points;
  for (const Of& at : line) {
    const double y = value(at);
    if (std::isfinite(y)) points.push_back({at.*x, y});
  }
  return pages::thin_out(points, kPoints);
}

std::vector<Point> over_steps(const RunHistory& run, double TrainPoint::*value) {
  return points_of(run.train, &TrainPoint::step,
                   [&](const TrainPoint& point) { return point.*value; });
}

std::vector<Point> over_steps(const RunHistory& run, double EvalPoint::*value) {
  return points_of(run.evaluations, &EvalPoint::step,
                   [&](const EvalPoint& point) { return point.*value; });
}

std::string one_curve(std::vector<Point> points, bool from_zero) {
  return line_plot({{"", "var(--b)", std::move(points)}}, {"step", false, from_zero});
}

/// A curve a depth of some list of the training lines.
std::vector<Curve> by_depth(const RunHistory& run, std::vector<double> TrainPoint::*values) {
  size_t depths = 0;
  for (const TrainPoint& point : run.train) depths = std::max(depths, (point.*values).size());
  std::vector<Curve> curves;
  for (size_t k = 0; k < depths; ++k) {
    curves.push_back({fmt::format("depth {}", k + 1), pages::step_color(k, depths),
                      points_of(run.train, &TrainPoint::step, [&](const TrainPoint& point) {
                        return k < (point.*values).size() ? (point.*values)[k] : NAN;
                      })});
  }
  return curves;
}

Curve depth_curve(const std::string& label, const std::string& color,
                  const std::vector<double>& shares) {
  Curve curve{label, color, {}, true};
  for (size_t k = 0; k < shares.size(); ++k) {
    curve.points.push_back({static_cast<double>(k + 1), shares[k]});
  }
  return curve;
}

}  // namespace

std::string acceptance_plot(const RunHistory& run) {
  return line_plot(
      {{"tau_sim, training", "var(--a)", over_steps(run, &TrainPoint::tau_sim)},
       {"tau_sim, held out", "var(--b)", over_steps(run, &EvalPoint::tau_sim), true},
       {"measured, held out", "var(--d)", over_steps(run, &EvalPoint::acceptance), true},
       {"measured in trees", "var(--c)", over_steps(run, &EvalPoint::acceptance_tree), true}},
      {"step"});
}

std::string depth_plot(const RunHistory& run) {
  const EvalPoint* best = run.best();
  if (!best) return "";
  return line_plot(
      {depth_curve("token right, given its chain", "var(--b)", best->acc_k),
       depth_curve("whole chain right", "var(--c)", best->chain_k),
       depth_curve("accepted when decoding, where reached", "var(--d)", best->rate_by_depth)},
      {"depth of the guess", true, false, true});
}

std::string loss_plot(const RunHistory& run) {
  return line_plot(by_depth(run, &TrainPoint::loss_k), {"step", false, true});
}

std::string accuracy_plot(const RunHistory& run) {
  return line_plot(by_depth(run, &TrainPoint::acc_k), {"step", true});
}

std::string learning_rate_plot(const RunHistory& run) {
  return one_curve(over_steps(run, &TrainPoint::lr), true);
}

std::string gradient_plot(const RunHistory& run) {
  return one_curve(over_steps(run, &TrainPoint::grad_norm), true);
}

std::string throughput_plot(const RunHistory& run) {
  return one_curve(over_steps(run, &TrainPoint::tokens_per_second), true);
}

std::string time_split_plot(const RunHistory& run) {
  std::vector<std::pair<std::string, double>> sums;
  double total = 0;
  for (const TrainPoint& point : run.train) {
    if (sums.empty()) {
      for (const auto& [part, seconds] : point.step_seconds) sums.emplace_back(part, 0.0);
    }
    for (size_t i = 0; i < std::min(sums.size(), point.step_seconds.size()); ++i) {
      sums[i].second += point.step_seconds[i].second;
      total += point.step_seconds[i].second;
    }
  }
  if (total <= 0) return "";
  constexpr double kLeft = 78, kRight = 440, kRow = 38;
  std::string svg = pages::open_svg(kRow * static_cast<double>(sums.size()) + 8);
  for (size_t i = 0; i < sums.size(); ++i) {
    const double y = kRow * static_cast<double>(i) + 6, share = sums[i].second / total;
    const double width = (kRight - kLeft) * share;
    svg += pages::text(kLeft - 8, y + 17, "end", pages::escape(sums[i].first));
    svg += pages::rectangle(kLeft, y, width, 24, pages::series_color(i));
    svg += pages::text(kLeft + width + 8, y + 17, "start", fmt::format("{:.1f} %", 100 * share),
                       "class='v'");
  }
  return svg + "</svg>";
}

std::string lengths_plot(const nlohmann::ordered_json& split) {
  std::vector<double> counts;
  for (const auto& count : split.value("histogram", nlohmann::ordered_json::array())) {
    counts.push_back(count.get<double>());
  }
  return pages::histogram(counts, split.at("lengths")[3].get<double>(),
                          "tokens of a document (bars: how many documents)");
}

std::string compare_plot(std::span<const RunHistory> runs, double EvalPoint::*value) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < runs.size(); ++i) {
    curves.push_back({runs[i].name, pages::series_color(i),
                      points_of(runs[i].evaluations, &EvalPoint::tokens,
                                [&](const EvalPoint& point) { return point.*value; }),
                      true});
  }
  return line_plot(curves, {"trained tokens"});
}

std::string compare_loss_plot(std::span<const RunHistory> runs) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < runs.size(); ++i) {
    curves.push_back({runs[i].name, pages::series_color(i),
                      points_of(runs[i].train, &TrainPoint::tokens,
                                [](const TrainPoint& point) { return point.loss; })});
  }
  return line_plot(curves, {"trained tokens"});
}

}  // namespace aerie
