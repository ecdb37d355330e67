// Adds up what speculation did over many outputs.
#pragma once
#include <array>
#include <vector>

#include "decoding/engine.h"
#include "draft_models/acceptance.h"

namespace aerie {

class AcceptanceCount {
 public:
  void add(const Completion& completion);

  int64_t tokens() const { return tokens_; }
  /// Whether anything was ever guessed.
  bool drafted() const { return !reached_.empty(); }
  /// Tokens emitted per decoding forward of the target; 1 if there was none. The token that a
  /// prompt's own forward gives is not counted.
  double length() const;
  /// 95 % confidence interval of length() over prompts: both sums of the ratio vary (linearised).
  std::array<double, 2> interval() const;
  /// Share of the guesses at each depth that held, of those whose predecessors held.
  std::vector<double> rate_by_depth() const;
  Acceptance acceptance() const { return {length(), rate_by_depth(), {}}; }

 private:
  struct Sample {
    double decoded, forwards;
  };
  int64_t tokens_ = 0;
  std::vector<Sample> samples_;  // one per output that decoded at all
  std::vector<int64_t> reached_, accepted_;
};

}  // namespace aerie
