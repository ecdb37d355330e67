#include "decoding/bench_plots.h"

#include <algorithm>

#include "pages/line_plot.h"
#include "pages/page.h"

namespace aerie {
namespace {

using pages::line;
using pages::open_svg;
using pages::text;

constexpr double kWidth = pages::kPlotWidth, kHeight = 240, kBase = 200;

std::string color_of(const BenchReport& report, const BenchRun& run) {
  if (run.draft_tokens == 0) return "var(--a)";
  const std::vector<std::string> labels = series_labels(report);
  return pages::series_color(
      static_cast<size_t>(std::find(labels.begin(), labels.end(), run.label) - labels.begin()));
}

/// One bar; bars of equal `group` stand together. `low` to `high` is drawn where they differ.
struct Bar {
  std::string label, group, color, value;
  double height, low, high;
};

class BarPlot {
 public:
  BarPlot(const std::vector<Bar>& bars, double reference) : bars_(bars), reference_(reference) {
    most_ = reference;
    for (const Bar& bar : bars) most_ = std::max({most_, bar.height, bar.high});
    step_ = (kWidth - 2 * kLeft) / std::max(1.0, static_cast<double>(bars.size()));
    width_ = std::min(64.0, step_ * 0.66);
  }
  std::string draw() const {
    std::string svg = open_svg(kHeight);
    svg += line(kLeft, kBase, kWidth - kLeft, kBase, "stroke='var(--line)'");
    if (reference_ > 0) {
      svg += line(kLeft, y(reference_), kWidth - kLeft, y(reference_),
                  "stroke='var(--soft)' stroke-dasharray='4 4'");
    }
    for (size_t i = 0; i < bars_.size(); ++i) svg += bar(i);
    return svg + "</svg>";
  }

 private:
  static constexpr double kLeft = 10, kTop = 24;
  double y(double value) const { return kBase - (kBase - kTop) * value / most_; }
  std::string bar(size_t index) const {
    const Bar& bar = bars_[index];
    const double center = kLeft + step_ * (static_cast<double>(index) + 0.5);
    std::string svg =
        fmt::format("<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='{:.1f}' rx='3' fill='{}'/>",
                    center - width_ / 2, y(bar.height), width_, kBase - y(bar.height), bar.color);
    if (bar.high > bar.low) {
      svg += line(center, y(bar.low), center, y(bar.high), "stroke='var(--ink)'");
    }
    svg += text(center, y(std::max(bar.height, bar.high)) - 6, "middle", bar.value, "class='v'");
    svg += text(center, kBase + 16, "middle", bar.label);
    if (index == 0 || bars_[index - 1].group != bar.group) {
      svg += text(center - width_ / 2, kBase + 34, "start", bar.group);
    }
    return svg;
  }

  const std::vector<Bar>& bars_;
  double reference_, most_, step_, width_;
};

std::string group_of(const BenchRun& run) { return fmt::format("{} at a time", run.concurrency); }

}  // namespace

std::vector<std::string> series_labels(const BenchReport& report) {
  std::vector<std::string> labels;
  for (const BenchRun& run : report.runs) {
    const bool known = std::find(labels.begin(), labels.end(), run.label) != labels.end();
    if (run.draft_tokens > 0 && !known) labels.push_back(run.label);
  }
  return labels;
}

std::string speedup_plot(const BenchReport& report) {
  std::vector<Bar> bars;
  for (const BenchRun& run : report.runs) {
    if (run.draft_tokens == 0) continue;
    bars.push_back({run.short_label, group_of(run), color_of(report, run),
                    fmt::format("{:.2f}×", run.speedup), run.speedup, 0, 0});
  }
  return BarPlot(bars, 1.0).draw();
}

std::string throughput_plot(const BenchReport& report) {
  std::vector<Bar> bars;
  for (const BenchRun& run : report.runs) {
    const auto [fast, slow] = std::minmax_element(run.seconds.begin(), run.seconds.end());
    const double tokens = static_cast<double>(run.tokens);
    bars.push_back({run.short_label, group_of(run), color_of(report, run),
                    fmt::format("{:.0f}", tokens_per_second(run)), tokens_per_second(run),
                    tokens / *slow, tokens / *fast});
  }
  return BarPlot(bars, 0.0).draw();
}

std::string depth_plot(const BenchReport& report) {
  std::vector<pages::Curve> curves;
  for (const BenchRun& run : report.runs) {
    if (run.draft_tokens == 0 || run.concurrency != report.runs.front().concurrency) continue;
    pages::Curve curve{run.label, color_of(report, run), {}, true};
    for (size_t depth = 0; depth < run.accept_rate.size(); ++depth) {
      curve.points.push_back({static_cast<double>(depth + 1), run.accept_rate[depth]});
    }
    curves.push_back(std::move(curve));
  }
  return line_plot(curves, {"depth of the guess", true, false, true});
}

std::string time_split_plot(const BenchReport& report) {
  constexpr double kLeft = 90, kRow = 30;
  std::string svg = open_svg(kRow * static_cast<double>(report.runs.size()) + 10);
  double y = 6;
  for (const BenchRun& run : report.runs) {
    svg += text(kLeft - 8, y + 14, "end", fmt::format("{} ×{}", run.short_label, run.concurrency));
    const TimeSplit& split = run.time_split;
    const std::pair<double, const char*> parts[] = {{split.target, "var(--b)"},
                                                    {split.draft, "var(--c)"},
                                                    {split.verify, "var(--d)"},
                                                    {split.schedule, "var(--e)"}};
    double x = kLeft;
    for (const auto& [share, color] : parts) {
      const double width = share * (kWidth - kLeft - 10);
      svg += pages::rectangle(x, y, width, 20, color);
      x += width;
    }
    y += kRow;
  }
  return svg + "</svg>";
}

}  // namespace aerie
