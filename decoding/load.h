// Requests that come while others are decoded: the load generator sits in the engine's own loop, so
// it costs no core, and its clock can be a table instead of the machine.
#pragma once
#include <algorithm>
#include <vector>

#include "decoding/engine.h"

namespace aerie {

/// Times of a Poisson process of `rate` a second, from 0 on: a pure function of the seed.
std::vector<double> poisson_arrivals(int64_t count, double rate, uint64_t seed);

struct LoadPlan {
  std::vector<Request> requests;
  std::vector<double> arrivals;  ///< seconds, ascending, one a request; empty: closed loop
  int64_t streams = 1;           ///< closed loop: so many at a time, the next one comes as one ends
};

class LoadClock {
 public:
  virtual ~LoadClock() = default;
  /// Seconds since the load began.
  virtual double now() const = 0;
  virtual void wait_until(double time) = 0;
  /// A forward has been run.
  virtual void stepped(const StepShape& shape) = 0;
};

class WallClock : public LoadClock {
 public:
  WallClock();
  double now() const override;
  void wait_until(double time) override;
  void stepped(const StepShape&) override {}

 private:
  double start_;
};

/// Time passes only as a table says that forwards take it: what a policy does is then the same on
/// every machine and in every run.
class TableClock : public LoadClock {
 public:
  explicit TableClock(StepCost cost) : cost_(std::move(cost)) {}
  double now() const override { return now_; }
  void wait_until(double time) override { now_ = std::max(now_, time); }
  void stepped(const StepShape& shape) override { now_ += cost_.seconds(shape); }

 private:
  const StepCost cost_;
  double now_ = 0;
};

struct RequestTrace {
  double arrived = 0;
  int64_t prompt_tokens = 0;
  std::vector<double> token_times;

  double first_token() const { return token_times.front() - arrived; }
  double finished() const { return token_times.back(); }
  /// Mean time between tokens where it is longest: over 16 gaps in a row, or over all where there
  /// are fewer; 0 for one token. (FastGen, arXiv 2401.08671, section 4, smooths over as many.)
  double slowest_stretch() const;
};
/// One forward. Rows that are neither of prompts nor rejected made or keep a token.
struct StepTrace {
  double begin = 0, end = 0;
  int64_t rows = 0, prompt_rows = 0, rejected_rows = 0, running = 0, waiting = 0;
};
struct LoadTrace {
  std::vector<RequestTrace> requests;
  std::vector<StepTrace> steps;
  double seconds = 0;       ///< from the first arrival to the last token
  TimeSplit times;          ///< of the machine, whatever the clock
  int64_t evictions = 0;    ///< sequences that lost their pages and came again
  int64_t shared_rows = 0;  ///< prompt rows that were found in the cache
};

/// Runs the plan to its end. Throws Error for a request that can never run.
LoadTrace run_load(Engine& engine, const LoadPlan& plan, LoadClock& clock);

}  // namespace aerie
