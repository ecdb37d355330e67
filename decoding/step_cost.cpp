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

/// Between which two points of a table so many rows lie, and where: 0 at `low`, 1 at `low` + 1,
/// beyond 1 behind the last.
struct Place {
  size_t low;
  double share;
};

Place place_of(std::span<const Point> table, int64_t rows) {
  if (rows <= table.front().rows || table.size() == 1) return {0, 0};
  size_t next = 1;
  while (next + 1 < table.size() && table[next].rows < rows) ++next;
  const Point &low = table[next - 1], &high = table[next];
  return {next - 1,
          static_cast<double>(rows - low.rows) / static_cast<double>(high.rows - low.rows)};
}

double interpolate(std::span<const Point> table, int64_t rows) {
  if (rows <= 0) return 0;
  const auto [low, share] = place_of(table, rows);
  if (share == 0) return table[low].seconds;
  return table[low].seconds + (table[low + 1].seconds - table[low].seconds) * share;
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
    : layers_(std::move(layers)), head_(std::move(head)), past_(past), own_(layers_.size(), 1.0) {
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

double StepCost::own_correction(int64_t rows) const {
  const auto [low, share] = place_of(layers_, rows);
  if (share == 0) return own_[low];
  return own_[low] + (own_[low + 1] - own_[low]) * std::min(share, 1.0);
}

double StepCost::seconds(const StepShape& shape) const {
  const double table = interpolate(layers_, shape.rows) + interpolate(head_, shape.logit_rows) +
                       past_.cache_row * static_cast<double>(shape.cache_rows) +
                       past_.pair * static_cast<double>(shape.pairs);
  return correction_ * own_correction(shape.rows) * table;
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

// What one number of rows alone shows is soon ascribed to all; what it shows against others stays
// its own.
void StepCost::observe(const StepShape& shape, double measured) {
  constexpr double kRate = 0.05, kOwnRate = 0.03, kForget = 0.002;
  constexpr double kLeast = 0.25, kMost = 4.0, kOwnLeast = 0.5, kOwnMost = 2.0;
  const double predicted = seconds(shape);
  if (predicted <= 0) return;
  const double excess = std::clamp(measured / predicted, kLeast, kMost) - 1;
  correction_ = std::clamp(correction_ * (1 + kRate * excess), kLeast, kMost);
  const auto [low, share] = place_of(layers_, shape.rows);
  const auto learn = [&](size_t point, double weight) {
    own_[point] = std::clamp(own_[point] * (1 + kOwnRate * weight * excess), kOwnLeast, kOwnMost);
  };
  const double upper = std::min(share, 1.0);
  learn(low, 1 - upper);
  if (upper > 0) learn(low + 1, upper);
  for (double& each : own_) each += kForget * (1 - each);
}

}  // namespace aerie
