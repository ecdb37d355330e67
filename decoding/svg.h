// The few shapes that all plots are made of. Colours are those of the page (bench_page.h).
#pragma once
#include <fmt/format.h>

#include <string>
#include <vector>

namespace aerie::svg {

inline constexpr double kWidth = 520, kHeight = 240,
                        kBase = 200;  ///< of a plot; y of its base line

inline std::string open(double height) {
  return fmt::format("<svg viewBox='0 0 {} {}' role='img'>", kWidth, height);
}
inline std::string text(double x, double y, const char* anchor, const std::string& words,
                        const char* style = "") {
  return fmt::format("<text{} x='{:.1f}' y='{:.1f}' text-anchor='{}'>{}</text>", style, x, y,
                     anchor, words);
}
inline std::string line(double x1, double y1, double x2, double y2, const std::string& style) {
  return fmt::format("<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}' {}/>", x1, y1, x2, y2,
                     style);
}

struct Point {
  double x, y;
};
struct Series {
  std::string color;
  std::vector<Point> points;
  bool dots = false;  ///< a mark at every point
};
/// Lines over two linear axes that begin at 0 and end at round numbers.
std::string lines(const std::vector<Series>& all, const std::string& x_name,
                  const std::string& y_name);

}  // namespace aerie::svg
