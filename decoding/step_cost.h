// What a forward of the target costs on this machine: the table that says whether a guess pays and
// how many rows fit between two tokens of a stream. It is also the clock of load runs that pass no
// real time.
#pragma once
#include <filesystem>
#include <vector>

#include "target_models/model.h"

namespace aerie {

/// What a forward is made of.
struct StepShape {
  int64_t rows = 0;
  int64_t logit_rows = 0;
  int64_t cache_rows = 0;  ///< keys of earlier steps that the chunks see, summed over the chunks
  int64_t pairs = 0;       ///< of a row and such a key
};

class StepCost {
 public:
  struct Point {
    int64_t rows;
    double seconds;
  };
  /// Seconds that attention takes beyond the layers' table, which is measured without a past.
  struct Past {
    double cache_row = 0, pair = 0;
  };
  /// Seconds of the layers over rows, and of the head over rows with logits; both ascending in
  /// rows. A table that falls somewhere is noise: what came before is lowered.
  StepCost(std::vector<Point> layers, std::vector<Point> head, Past past);
  StepCost(std::vector<Point> layers, std::vector<Point> head);

  /// {"layers": [[rows, seconds], ...], "head": [[rows, seconds], ...], "cache_row": seconds,
  /// "pair": seconds}. Throws Error naming the file.
  static StepCost read(const std::filesystem::path& file);
  /// As measured: without the correction.
  void write(const std::filesystem::path& file) const;

  /// Between two points on the line through them; beyond the last one on the last line.
  double seconds(const StepShape& shape) const;
  double seconds(int64_t rows, int64_t logit_rows) const;
  /// The most rows whose forward takes no longer, all else as in `shape`; each of them sees
  /// `keys_a_row` keys of earlier steps.
  int64_t rows_within(double seconds, StepShape shape, int64_t keys_a_row) const;
  /// Learns from a step that was run: the machine may be busier than when it was measured, which
  /// makes all steps dearer, and its memory more than its cores or the other way round, which
  /// makes those of few rows dearer than those of many or the other way round.
  void observe(const StepShape& shape, double seconds);
  /// Measured over predicted, smoothed over some steps. 1: as measured at start.
  double correction() const { return correction_; }

 private:
  double own_correction(int64_t rows) const;

  std::vector<Point> layers_, head_;
  Past past_;
  double correction_ = 1;
  std::vector<double> own_;  // of each point of layers_, beside the common one
};

/// Runs forwards of 1 to `most_rows` rows; some seconds for a small model.
StepCost measure_step_cost(const TargetModel& target, int64_t most_rows);

}  // namespace aerie
