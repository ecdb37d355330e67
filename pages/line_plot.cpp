#include "pages/line_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "pages/page.h"

namespace aerie::pages {
namespace {

constexpr double kLeft = 52, kRight = 508, kTop = 12, kBottom = 204, kHeight = 246;
constexpr const char* kGridLine = "stroke='var(--line)'";

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return !(low <= high); }
  /// Something to divide by, also where all values are one.
  void widen() {
    if (high > low) return;
    const double room = high == 0 ? 1 : std::abs(high) * 0.5;
    low -= room;
    high += room;
  }
};

bool finite(const Point& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

class Frame {
 public:
  Frame(const std::vector<Curve>& curves, const Axes& axes) : axes_(axes) {
    for (const Curve& curve : curves) {
      for (const Point& point : curve.points) {
        if (!finite(point)) continue;
        x_.take(point.x);
        y_.take(point.y);
      }
    }
    if (empty()) return;
    if (axes.percent) y_ = {0, 1};
    if (axes.from_zero) y_.take(0);
    x_.widen();
    y_.widen();
    if (!axes.percent) y_.high += 0.04 * (y_.high - y_.low);
  }

  bool empty() const { return x_.empty(); }
  Point place(const Point& value) const {
    return {kLeft + (kRight - kLeft) * (value.x - x_.low) / (x_.high - x_.low),
            kBottom - (kBottom - kTop) * (value.y - y_.low) / (y_.high - y_.low)};
  }

  std::string draw() const {
    std::string svg;
    for (const double tick : axes_.percent ? std::vector<double>{0, 0.25, 0.5, 0.75, 1}
                                           : round_ticks(y_.low, y_.high, 5)) {
      const double y = place({x_.low, tick}).y;
      svg += line(kLeft, y, kRight, y, kGridLine);
      svg += text(kLeft - 6, y + 4, "end",
                  axes_.percent ? fmt::format("{:.0f}%", 100 * tick) : short_number(tick));
    }
    for (const double tick : x_ticks()) {
      const double x = place({tick, y_.low}).x;
      svg += line(x, kBottom, x, kBottom + 4, kGridLine);
      svg += text(x, kBottom + 18, "middle", short_number(tick));
    }
    return svg + text((kLeft + kRight) / 2, kBottom + 37, "middle", escape(axes_.x_label));
  }

 private:
  std::vector<double> x_ticks() const {
    if (!axes_.whole_x) return round_ticks(x_.low, x_.high, 6);
    std::vector<double> ticks;
    for (auto x = std::llround(std::ceil(x_.low)); static_cast<double>(x) <= x_.high; ++x)
      ticks.push_back(static_cast<double>(x));
    return ticks;
  }

  const Axes& axes_;
  Range x_, y_;
};

std::string draw(const Curve& curve, const Frame& frame) {
  std::vector<Point> places;
  std::string marks;
  for (const Point& point : curve.points) {
    if (!finite(point)) continue;
    places.push_back(frame.place(point));
    const std::string title =
        fmt::format("{} {}: {:.4g}", curve.label, short_number(point.x), point.y);
    if (curve.marks) marks += dot(places.back(), 3.5, curve.color, title);
  }
  if (places.size() == 1 && !curve.marks) marks = dot(places[0], 2.5, curve.color);
  return polyline(places, curve.color, "stroke-linejoin='round'") + marks;
}

}  // namespace

std::string line_plot(const std::vector<Curve>& curves, const Axes& axes) {
  const Frame frame(curves, axes);
  if (frame.empty()) return "";
  std::string svg = open_svg(kHeight) + frame.draw(), keys;
  for (const Curve& curve : curves) {
    svg += draw(curve, frame);
    if (!curve.label.empty()) keys += key_of(curve.color, curve.label);
  }
  return svg + "</svg>" + (keys.empty() ? "" : legend(keys));
}

std::string histogram(const std::vector<double>& values, double x_max, const std::string& x_label) {
  if (values.empty()) return "";
  const double most = std::max(1e-300, *std::max_element(values.begin(), values.end()));
  const double width = (kRight - kLeft) / static_cast<double>(values.size());
  std::string svg = open_svg(kHeight) + line(kLeft, kBottom, kRight, kBottom, kGridLine);
  for (size_t i = 0; i < values.size(); ++i) {
    const double height = (kBottom - kTop) * values[i] / most;
    svg += rectangle(kLeft + width * static_cast<double>(i) + 1, kBottom - height,
                     std::max(1.0, width - 2), height, "var(--b)");
  }
  for (const double tick : round_ticks(0, x_max, 6)) {
    svg +=
        text(kLeft + (kRight - kLeft) * tick / x_max, kBottom + 18, "middle", short_number(tick));
  }
  for (const double tick : round_ticks(0, most, 4)) {
    svg += text(kLeft - 6, kBottom - (kBottom - kTop) * tick / most + 4, "end", short_number(tick));
  }
  return svg + text((kLeft + kRight) / 2, kBottom + 37, "middle", escape(x_label)) + "</svg>";
}

std::vector<Point> thin_out(const std::vector<Point>& points, size_t limit) {
  if (points.size() <= limit) return points;
  std::vector<Point> thin;
  for (size_t i = 0; i < limit; ++i) {
    const size_t begin = i * points.size() / limit, end = (i + 1) * points.size() / limit;
    Point sum;
    for (size_t j = begin; j < end; ++j) {
      sum.x += points[j].x;
      sum.y += points[j].y;
    }
    const auto count = static_cast<double>(end - begin);
    thin.push_back({sum.x / count, sum.y / count});
  }
  return thin;
}

std::vector<double> round_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  if (!(raw > 0) || !std::isfinite(raw)) return {low};
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * 0.999) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const auto last = static_cast<int64_t>(std::floor(high / step + 1e-9));
  for (auto i = static_cast<int64_t>(std::ceil(low / step - 1e-9)); i <= last; ++i) {
    ticks.push_back(static_cast<double>(i) * step);
  }
  return ticks;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  if (size >= 1e9) return fmt::format("{:.4g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.4g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g}k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

}  // namespace aerie::pages
