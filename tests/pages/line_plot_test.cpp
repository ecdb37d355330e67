// What a page is made of: text stays text, plots keep their curves within their frame.
#include "pages/line_plot.h"

#include <gmock/gmock.h>

#include <limits>
#include <regex>

#include "pages/page.h"

namespace aerie::pages {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Page, TextIsShownLiterally) {
  EXPECT_EQ(escape("a < b & \"c\""), "a &lt; b &amp; &quot;c&quot;");
  EXPECT_THAT(page("<x>", "", ""), AllOf(HasSubstr("<h1>&lt;x&gt;</h1>"), Not(HasSubstr("<x>"))));
  EXPECT_EQ(table({{"a", "b"}, {"1", "2"}}),
            "<div class='wide'><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr>"
            "</table></div>");
}

TEST(Page, StepsOfARowHaveDifferentColours) {
  EXPECT_NE(step_color(0, 7), step_color(1, 7));
  EXPECT_NE(step_color(0, 7), step_color(6, 7));
  EXPECT_EQ(step_color(0, 1), step_color(0, 7));
}

/// Every "x,y" of every polyline.
std::vector<Point> places_in(const std::string& svg) {
  std::vector<Point> places;
  const std::regex pair("(-?[0-9.]+),(-?[0-9.]+) ");
  for (std::sregex_iterator at(svg.begin(), svg.end(), pair), end; at != end; ++at) {
    places.push_back({std::stod((*at)[1]), std::stod((*at)[2])});
  }
  return places;
}

TEST(LinePlot, EveryPointIsInsideAndInItsPlace) {
  const std::string svg =
      line_plot({{"loss", "red", {{10, 4}, {20, 2}, {30, 3}}}}, {"step", false, false});
  const std::vector<Point> places = places_in(svg);
  ASSERT_EQ(places.size(), 3u);
  for (const Point& place : places) {
    EXPECT_GE(place.x, 0);
    EXPECT_LE(place.x, kPlotWidth);
    EXPECT_GE(place.y, 0);
  }
  EXPECT_NEAR(places[1].x - places[0].x, places[2].x - places[1].x, 0.2);
  EXPECT_LT(places[0].y, places[2].y) << "a larger value stands higher";
  EXPECT_LT(places[2].y, places[1].y);
  EXPECT_THAT(svg, AllOf(HasSubstr(">step</text>"), HasSubstr("loss")));
}

TEST(LinePlot, WhatWasNotMeasuredIsLeftOut) {
  EXPECT_EQ(line_plot({{"a", "red", {}}}, {"step"}), "");
  EXPECT_EQ(line_plot({{"a", "red", {{1, kNaN}}}}, {"step"}), "");
  const std::string svg = line_plot({{"a", "red", {{1, 2}, {2, kNaN}, {3, 4}}}}, {"step"});
  EXPECT_EQ(places_in(svg).size(), 2u);
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(LinePlot, OnePointOrOneValueIsStillAPlot) {
  for (const std::vector<Point>& points :
       {std::vector<Point>{{5, 1.5}}, std::vector<Point>{{1, 0}, {2, 0}}}) {
    const std::string svg = line_plot({{"a", "red", points}}, {"step"});
    EXPECT_EQ(places_in(svg).size(), points.size());
    EXPECT_THAT(svg, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
  }
}

TEST(LinePlot, TicksAreRound) {
  EXPECT_THAT(round_ticks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(round_ticks(1.3, 2.9, 4), ElementsAre(1.5, 2, 2.5));
  EXPECT_THAT(round_ticks(3, 3, 4), ElementsAre(3));
  EXPECT_EQ(short_number(331000), "331k");
  EXPECT_EQ(short_number(1.5e6), "1.5M");
  EXPECT_EQ(short_number(0.0005), "0.0005");
  EXPECT_EQ(short_number(840), "840");
}

TEST(LinePlot, ManyPointsBecomeMeansOfNeighbours) {
  std::vector<Point> points;
  for (int i = 0; i < 1000; ++i) points.push_back({i * 1.0, i % 2 * 2.0});
  const std::vector<Point> thin = thin_out(points, 100);
  ASSERT_EQ(thin.size(), 100u);
  for (const Point& point : thin) EXPECT_DOUBLE_EQ(point.y, 1);
  EXPECT_DOUBLE_EQ(thin[0].x, 4.5);
  EXPECT_EQ(thin_out(points, 2000).size(), 1000u);
}

TEST(LinePlot, BarsOfAHistogram) {
  const std::string svg = histogram({1, 3, 2}, 300, "tokens");
  size_t bars = 0;
  for (size_t at = svg.find("<rect"); at != svg.npos; at = svg.find("<rect", at + 1)) ++bars;
  EXPECT_EQ(bars, 3u);
  EXPECT_EQ(histogram({}, 300, "tokens"), "");
}

}  // namespace
}  // namespace aerie::pages
