// The few elements of SVG that plots are made of. Colours are CSS variables of the page.
#pragma once
#include <string>
#include <vector>

namespace aerie::pages {

/// Every plot is so wide, in units of its own: the page stretches it.
constexpr double kPlotWidth = 520;

struct Point {
  double x = 0, y = 0;
};

/// Elements follow until "</svg>".
std::string open_svg(double height);
/// `anchor`: start | middle | end; `attributes` as they stand in the element: "class='v'".
std::string text(double x, double y, const char* anchor, const std::string& words,
                 const std::string& attributes = "");
std::string line(double x1, double y1, double x2, double y2, const std::string& attributes);
std::string rectangle(double x, double y, double width, double height, const std::string& color);
std::string polyline(const std::vector<Point>& points, const std::string& color,
                     const std::string& attributes = "");
/// `title` is shown where the pointer rests.
std::string dot(Point center, double radius, const std::string& color,
                const std::string& title = "");

}  // namespace aerie::pages
