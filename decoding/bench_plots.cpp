#include "decoding/bench_plots.h"

#include <algorithm>
#include <array>

namespace aerie {

namespace {

constexpr std::array kSeries{"var(--b)", "var(--d)", "var(--c)", "var(--e)"};
constexpr double kWidth = 520, kHeight = 240, kBase = 200;

std::string color_of(const BenchReport& report, const BenchRun& run) {
  if (run.draft_tokens == 0) return "var(--a)";
  const std::vector<std::string> labels = series_labels(report);
  return series_color(std::find(labels.begin(), labels.end(), run.label) - labels.begin());
}

std::string open_svg(double height) {
  return fmt::format("<svg viewBox='0 0 {} {}' role='img'>", kWidth, height);
}
std::string text(double x, double y, const char* anchor, const std::string& words,
                 const char* style = "") {
  return fmt::format("<text{} x='{:.1f}' y='{:.1f}' text-anchor='{}'>{}</text>", style, x, y,
                     anchor, words);
}
std::string line(double x1, double y1, double x2, double y2, const std::string& style) {
  return fmt::format("<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}' {}/>", x1, y1, x2, y2,
                     style);
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
    svg += text(center, y(std::max(bar.height, bar.high)) - 6, "middle", bar.value, " class='v'");
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

std::string series_color(size_t series) { return kSeries[series % kSeries.size()]; }

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
  constexpr double kTop = 16, kLeft = 44, kRight = 500;
  size_t deepest = 2;
  for (const BenchRun& run : report.runs) deepest = std::max(deepest, run.accept_rate.size());
  const double step = (kRight - kLeft - 40) / static_cast<double>(deepest - 1);
  const auto x = [&](size_t depth) { return kLeft + 20 + step * static_cast<double>(depth); };
  const auto y = [&](double rate) { return kBase - (kBase - kTop) * rate; };
  std::string svg = open_svg(kHeight);
  for (int tick = 0; tick <= 4; ++tick) {
    svg += line(kLeft, y(tick / 4.0), kRight, y(tick / 4.0), "stroke='var(--line)'");
    svg += text(kLeft - 6, y(tick / 4.0) + 4, "end", fmt::format("{}%", tick * 25));
  }
  for (size_t depth = 0; depth < deepest; ++depth) {
    svg += text(x(depth), kBase + 18, "middle", std::to_string(depth + 1));
  }
  svg += text((kLeft + kRight) / 2, kBase + 36, "middle", "depth of the guess");
  for (const BenchRun& run : report.runs) {
    if (run.draft_tokens == 0 || run.concurrency != report.runs.front().concurrency) continue;
    const std::string color = color_of(report, run);
    std::string points;
    for (size_t depth = 0; depth < run.accept_rate.size(); ++depth) {
      points += fmt::format("{:.1f},{:.1f} ", x(depth), y(run.accept_rate[depth]));
      svg += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='4' fill='{}'/>", x(depth),
                         y(run.accept_rate[depth]), color);
    }
    svg += fmt::format("<polyline points='{}' fill='none' stroke='{}' stroke-width='2'/>", points,
                       color);
  }
  return svg + "</svg>";
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
      svg += fmt::format("<rect x='{:.2f}' y='{:.1f}' width='{:.2f}' height='20' fill='{}'/>", x, y,
                         width, color);
      x += width;
    }
    y += kRow;
  }
  return svg + "</svg>";
}

}  // namespace aerie
