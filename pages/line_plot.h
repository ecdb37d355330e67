// Curves over a common axis, as one SVG with ticks, and a legend under it.
#pragma once
#include <string>
#include <vector>

#include "pages/svg.h"

namespace aerie::pages {

struct Curve {
  std::string label;  ///< "": not in the legend
  std::string color;
  std::vector<Point> points;  ///< ascending x; points that are not finite are left out
  bool marks = false;         ///< a dot at each point
};

struct Axes {
  std::string x_label;
  bool percent = false;    ///< y from 0 to 1, shown as 0 % to 100 %
  bool from_zero = false;  ///< y begins at 0
  bool whole_x = false;    ///< a tick at each whole number: depths
};

/// "" where no curve has a point.
std::string line_plot(const std::vector<Curve>& curves, const Axes& axes);

/// Bars side by side from 0 to `x_max`, each as high as its value.
std::string histogram(const std::vector<double>& values, double x_max, const std::string& x_label);

/// At most `limit` points: means of neighbours.
std::vector<Point> thin_out(const std::vector<Point>& points, size_t limit);

/// Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], about `count` of them.
std::vector<double> round_ticks(double low, double high, int count);
/// 12500 -> "12.5k", 0.0005 -> "0.0005".
std::string short_number(double value);

}  // namespace aerie::pages
