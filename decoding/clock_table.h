// How long forwards take, as a table: measured on one machine, it is the clock of load runs on any.
#pragma once
#include <filesystem>
#include <vector>

#include "decoding/step_cost.h"

namespace aerie {

class ClockTable {
 public:
  /// Ascending in rows, at least one. Throws Error otherwise.
  explicit ClockTable(std::vector<RowCost> points);
  /// {"rows": [1, 2, ...], "seconds": [...]}. Throws Error naming the file.
  static ClockTable read(const std::filesystem::path& file);
  void write(const std::filesystem::path& file) const;

  double seconds(int64_t rows) const { return interpolate(points_, rows); }

 private:
  std::vector<RowCost> points_;
};

/// Runs forwards of 1 to 512 rows, the fastest of some each: about two seconds for a small model.
ClockTable measure_clock(const TargetModel& target);

}  // namespace aerie
