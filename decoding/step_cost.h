// What a forward of the target costs on this machine: the table that says whether a guess pays and
// how many rows fit between two tokens of a stream.
#pragma once
#include <span>
#include <vector>

#include "target_models/model.h"

namespace aerie {

/// What a forward of so many rows takes.
struct RowCost {
  int64_t rows;
  double seconds;
};

/// Of a table ascending in rows: on the line through the neighbours; beyond the last entry on the
/// last line, before the first one as much as that.
double interpolate(std::span<const RowCost> table, int64_t rows);

class StepCost {
 public:
  /// Seconds of the layers over rows, and of the head over rows with logits; both ascending in
  /// rows. A table that falls somewhere is noise: it is levelled from there on.
  StepCost(std::vector<RowCost> layers, std::vector<RowCost> head);

  /// Nothing for no rows.
  double seconds(int64_t rows, int64_t logit_rows) const;
  /// The most rows, `logit_rows` of them with logits, whose forward takes no longer.
  int64_t rows_within(double seconds, int64_t logit_rows) const;
  /// Learns from a step that was run: the machine may be busier than when it was measured.
  void observe(int64_t rows, int64_t logit_rows, double seconds);
  /// Measured over predicted, smoothed over some steps. 1: as measured at start.
  double correction() const { return correction_; }

 private:
  std::vector<RowCost> layers_, head_;
  double correction_ = 1;
};

/// Runs forwards of 1 to `most_rows` rows; about a second for a small model.
StepCost measure_step_cost(const TargetModel& target, int64_t most_rows);

}  // namespace aerie
