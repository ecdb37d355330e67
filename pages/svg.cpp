#include "pages/svg.h"

#include <fmt/format.h>

#include "pages/page.h"

namespace aerie::pages {

std::string open_svg(double height) {
  return fmt::format("<svg viewBox='0 0 {} {}' role='img'>", kPlotWidth, height);
}

std::string text(double x, double y, const char* anchor, const std::string& words,
                 const std::string& attributes) {
  return fmt::format("<text {} x='{:.1f}' y='{:.1f}' text-anchor='{}'>{}</text>", attributes, x, y,
                     anchor, words);
}

std::string line(double x1, double y1, double x2, double y2, const std::string& attributes) {
  return fmt::format("<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}' {}/>", x1, y1, x2, y2,
                     attributes);
}

std::string rectangle(double x, double y, double width, double height, const std::string& color) {
  return fmt::format("<rect x='{:.2f}' y='{:.1f}' width='{:.2f}' height='{:.1f}' fill='{}'/>", x, y,
                     width, height, color);
}

std::string polyline(const std::vector<Point>& points, const std::string& color,
                     const std::string& attributes) {
  std::string places;
  for (const Point& point : points) places += fmt::format("{:.1f},{:.1f} ", point.x, point.y);
  return fmt::format("<polyline points='{}' fill='none' stroke='{}' stroke-width='2' {}/>", places,
                     color, attributes);
}

std::string dot(Point center, double radius, const std::string& color, const std::string& title) {
  return fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='{}' fill='{}'><title>{}</title></circle>",
                     center.x, center.y, radius, color, escape(title));
}

}  // namespace aerie::pages
