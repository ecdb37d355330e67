#include "decoding/step_cost.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "common/error.h"
#include "common/files.h"
#include "data/json.h"

namespace aerie {

namespace {

using Point = StepCost::Point;

/// Whatever else the machine does only adds to a measurement: what lies above that of more rows is
/// lowered to it.
void level(std::vector<Point>& table, const char* what) {
  AERIE_CHECK(!table.empty(), "a table of step costs has no entry for the {}", what);
  for (size_t i = table.size() - 1; i > 0; --i) {
    AERIE_CHECK(table[i - 1].rows < table[i].rows,
                "the step costs of the {} are not ascending in rows: {} after {}", what,
                table[i].rows, table[i - 1].rows);
    table[i - 1].seconds = std::min(table[i - 1].seconds, table[i].seconds);
  }
}

double interpolate(std::span<const Point> table, int64_t rows) {
  if (rows <= 0) return 0;
  if (rows <= table.front().rows || table.size() == 1) return table.front().seconds;
  size_t next = 1;
  while (next + 1 < table.size() && table[next].rows < rows) ++next;
  const Point &low = table[next - 1], &high = table[next];
  return low.seconds + (high.seconds - low.seconds) * static_cast<double>(rows - low.rows) /
                           static_cast<double>(high.rows - low.rows);
}

std::vector<Point> points_of(const Json& pairs, const std::filesystem::path& file) {
  std::vector<Point> points;
  for (const Json& pair : pairs) {
    points.push_back({pair.at(0).get<int64_t>(), pair.at(1).get<double>()});
    AERIE_CHECK(points.back().rows > 0 && points.back().seconds > 0, "{}: {} rows take {} s",
                file.string(), points.back().rows, points.back().seconds);
  }
  return points;
}

Json pairs_of(const std::vector<Point>& points) {
  Json pairs = Json::array();
  for (const Point& point : points) pairs.push_back({point.rows, point.seconds});
  return pairs;
}

}  // namespace

StepCost::StepCost(std::vector<Point> layers, std::vector<Point> head, Past past)
    : layers_(std::move(layers)), head_(std::move(head)), past_(past) {
  level(layers_, "layers");
  level(head_, "head");
  AERIE_CHECK(past.cache_row >= 0 && past.pair >= 0,
              "a key in the cache takes {} s and a pair {} s: neither can be negative",
              past.cache_row, past.pair);
}

StepCost::StepCost(std::vector<Point> layers, std::vector<Point> head)
    : StepCost(std::move(layers), std::move(head), Past{}) {}

StepCost StepCost::read(const std::filesystem::path& file) {
  try {
    const Json table = Json::parse(read_file(file));
    return StepCost(points_of(table.at("layers"), file), points_of(table.at("head"), file),
                    {table.at("cache_row").get<double>(), table.at("pair").get<double>()});
  } catch (const nlohmann::json::exception& error) {
    fail("{} is not a table of step costs as --measure-clock writes it: {}", file.string(),
         error.what());
  }
}

void StepCost::write(const std::filesystem::path& file) const {
  const Json table{{"layers", pairs_of(layers_)},
                   {"head", pairs_of(head_)},
                   {"cache_row", past_.cache_row},
                   {"pair", past_.pair}};
  write_file_atomic(file, table.dump() + "\n");
}

double StepCost::seconds(const StepShape& shape) const {
  return correction_ * (interpolate(layers_, shape.rows) + interpolate(head_, shape.logit_rows) +
                        past_.cache_row * static_cast<double>(shape.cache_rows) +
                        past_.pair * static_cast<double>(shape.pairs));
}

double StepCost::seconds(int64_t rows, int64_t logit_rows) const {
  return seconds(StepShape{rows, logit_rows});
}

int64_t StepCost::rows_within(double limit, StepShape shape, int64_t keys_a_row) const {
  const auto fits = [&](int64_t rows) {
    shape.rows = rows;
    StepShape whole = shape;
    whole.pairs += rows * keys_a_row;
    return seconds(whole) <= limit;
  };
  int64_t low = 0, high = 1;
  while (high < (int64_t{1} << 20) && fits(high)) high *= 2;
  while (low + 1 < high) {
    const int64_t middle = (low + high) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

void StepCost::observe(const StepShape& shape, double measured) {
  constexpr double kRate = 0.05, kLeast = 0.25, kMost = 4.0;
  const double predicted = seconds(shape);
  if (predicted <= 0) return;
  const double ratio = std::clamp(measured / predicted, kLeast, kMost);
  correction_ = std::clamp(correction_ * (1 + kRate * (ratio - 1)), kLeast, kMost);
}

}  // namespace aerie
