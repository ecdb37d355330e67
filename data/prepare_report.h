// What preparing the data found, as JSON: report.json of a split, data.json of a run.
#pragma once
#include "data/json.h"
#include "data/prepare.h"

namespace aerie {

Json to_json(const SplitReport& report);
/// Throws Error naming `origin` where a field is missing.
SplitReport split_report_from(const Json& json, const std::string& origin);

/// {"train": {...}, "heldout": {...}, "vocabulary": [{"size", "train", "heldout"}, ...]}
Json to_json(const PrepareReport& report);

/// Lengths of documents, counted: percentiles and a histogram in memory bounded by the longest.
class LengthCount {
 public:
  void add(int64_t length);
  /// The shortest length that `share` of the documents do not exceed.
  int64_t percentile(double share) const;
  int64_t largest() const { return counts_.empty() ? 0 : counts_.rbegin()->first; }
  /// Documents in each of so many equal steps from 0 to the largest length.
  std::vector<int64_t> histogram(int64_t steps) const;

 private:
  std::map<int64_t, int64_t> counts_;
  int64_t documents_ = 0;
};

}  // namespace aerie
