#include "decoding/svg.h"

#include <algorithm>
#include <cmath>

namespace aerie::svg {

namespace {

constexpr double kLeft = 56, kRight = 504, kTop = 16;

// The distance of axis marks: 1, 2 or 5 times a power of ten, so that there are 3 to 7 of them.
double mark_distance(double most) {
  const double power = std::pow(10, std::floor(std::log10(std::max(most, 1e-9))));
  for (const double factor : {0.2, 0.5, 1.0, 2.0}) {
    if (most / (power * factor) <= 6) return power * factor;
  }
  return power * 2;
}

}  // namespace

std::string lines(const std::vector<Series>& all, const std::string& x_name,
                  const std::string& y_name) {
  double most_x = 0, most_y = 0;
  for (const Series& series : all) {
    for (const Point& point : series.points) {
      most_x = std::max(most_x, point.x);
      most_y = std::max(most_y, point.y);
    }
  }
  const double step_x = mark_distance(most_x), step_y = mark_distance(most_y);
  most_x = std::max(step_x, std::ceil(most_x / step_x) * step_x);
  most_y = std::max(step_y, std::ceil(most_y / step_y) * step_y);
  const auto x = [&](double value) { return kLeft + (kRight - kLeft) * value / most_x; };
  const auto y = [&](double value) { return kBase - (kBase - kTop) * value / most_y; };
  std::string svg = open(kHeight + 6);
  for (double mark = 0; mark <= most_y * 1.001; mark += step_y) {
    svg += line(kLeft, y(mark), kRight, y(mark), "stroke='var(--line)'");
    svg += text(kLeft - 6, y(mark) + 4, "end", fmt::format("{:.4g}", mark));
  }
  for (double mark = 0; mark <= most_x * 1.001; mark += step_x) {
    svg += text(x(mark), kBase + 18, "middle", fmt::format("{:.4g}", mark));
  }
  svg += text((kLeft + kRight) / 2, kBase + 38, "middle", x_name);
  svg += text(kLeft - 50, kTop - 5, "start", y_name);
  for (const Series& series : all) {
    std::string points;
    for (const Point& point : series.points) {
      points += fmt::format("{:.1f},{:.1f} ", x(point.x), y(point.y));
      if (!series.dots) continue;
      svg += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='4' fill='{}'/>", x(point.x),
                         y(point.y), series.color);
    }
    svg += fmt::format("<polyline fill='none' stroke='{}' stroke-width='2' points='{}'/>",
                       series.color, points);
  }
  return svg + "</svg>";
}

}  // namespace aerie::svg
