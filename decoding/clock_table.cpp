#include "decoding/clock_table.h"

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "decoding/autoregressive.h"
#include "decoding/clock.h"
#include "decoding/engine.h"

namespace aerie {

ClockTable::ClockTable(std::vector<RowCost> points) : points_(std::move(points)) {
  AERIE_CHECK(!points_.empty(), "a clock table has no entry");
  for (size_t i = 0; i < points_.size(); ++i) {
    AERIE_CHECK(points_[i].rows > 0 && points_[i].seconds > 0,
                "a clock table says that {} rows take {} s", points_[i].rows, points_[i].seconds);
    AERIE_CHECK(i == 0 || points_[i - 1].rows < points_[i].rows,
                "a clock table is not ascending: {} rows after {}", points_[i].rows,
                points_[i - 1].rows);
  }
}

ClockTable ClockTable::read(const std::filesystem::path& file) {
  std::vector<RowCost> points;
  try {
    const auto table = nlohmann::json::parse(read_file(file));
    const std::vector<int64_t> rows = table.at("rows");
    const std::vector<double> seconds = table.at("seconds");
    AERIE_CHECK(rows.size() == seconds.size(), "{}: {} rows and {} seconds", file.string(),
                rows.size(), seconds.size());
    for (size_t i = 0; i < rows.size(); ++i) points.push_back({rows[i], seconds[i]});
  } catch (const nlohmann::json::exception& error) {
    fail("{} is not a clock table, {{\"rows\": [...], \"seconds\": [...]}}: {}", file.string(),
         error.what());
  }
  return ClockTable(std::move(points));
}

void ClockTable::write(const std::filesystem::path& file) const {
  nlohmann::json rows = nlohmann::json::array(), seconds = nlohmann::json::array();
  for (const RowCost& point : points_) {
    rows.push_back(point.rows);
    seconds.push_back(point.seconds);
  }
  write_file_atomic(file, nlohmann::json{{"rows", rows}, {"seconds", seconds}}.dump() + "\n");
}

ClockTable measure_clock(const TargetModel& target) {
  constexpr int64_t kMostRows = 512;
  AutoregressiveDecoder decoder;
  Engine engine(target, decoder, {{1, kMostRows}, PageTable::pages_for(kMostRows + 1)});
  const auto run = [&](int64_t rows) {
    Request request;
    request.prompt.assign(rows, 0);
    request.max_new_tokens = 1;
    engine.submit(std::move(request));
    const double start = seconds_now();
    engine.step({});
    return seconds_now() - start;
  };
  run(kMostRows);  // buffers grow
  std::vector<RowCost> points;
  for (const int64_t rows : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512}) {
    double least = run(rows);
    for (int more = 0; more < (rows <= 64 ? 4 : 2); ++more) least = std::min(least, run(rows));
    // What is faster with more rows is noise.
    if (!points.empty()) least = std::max(least, points.back().seconds);
    points.push_back({rows, least});
  }
  return ClockTable(std::move(points));
}

}  // namespace aerie
