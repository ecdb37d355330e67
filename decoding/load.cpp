#include "decoding/load.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <unordered_map>

#include "common/error.h"
#include "decoding/clock.h"
#include "decoding/sampler.h"

namespace aerie {

namespace {

class LoadRunner {
 public:
  LoadRunner(Engine& engine, const LoadPlan& plan, LoadClock& clock)
      : engine_(engine), plan_(plan), clock_(clock) {
    trace_.requests.resize(plan.requests.size());
  }

  LoadTrace run() {
    while (finished_ < plan_.requests.size()) {
      submit_due();
      if (engine_.idle()) {
        clock_.wait_until(plan_.arrivals.at(next_));
        continue;
      }
      step();
    }
    trace_.seconds = clock_.now() - (plan_.arrivals.empty() ? 0 : plan_.arrivals.front());
    trace_.times = engine_.times();
    trace_.evictions = engine_.counts().evictions;
    trace_.shared_rows = engine_.counts().shared_rows;
    return std::move(trace_);
  }

 private:
  bool due() const {
    if (next_ == plan_.requests.size()) return false;
    if (plan_.arrivals.empty()) return static_cast<int64_t>(next_ - finished_) < plan_.streams;
    return plan_.arrivals[next_] <= clock_.now();
  }

  void submit_due() {
    for (; due(); ++next_) {
      RequestTrace& request = trace_.requests[next_];
      // What came during a forward has waited since then.
      request.arrived = plan_.arrivals.empty() ? clock_.now() : plan_.arrivals[next_];
      request.prompt_tokens = static_cast<int64_t>(plan_.requests[next_].prompt.size());
      index_of_[engine_.submit(plan_.requests[next_])] = next_;
    }
  }

  void step() {
    const EngineCounts before = engine_.counts();
    const double begin = clock_.now();
    std::vector<std::pair<size_t, size_t>> news;  // request, tokens
    engine_.step([&](const Sequence& sequence, std::span<const int32_t> tokens) {
      news.emplace_back(index_of_.at(sequence.id), tokens.size());
      finished_ += sequence.finish != FinishReason::kRunning;
    });
    const EngineCounts& after = engine_.counts();
    clock_.stepped(engine_.last_step());
    const StepTrace step{begin,
                         clock_.now(),
                         after.rows - before.rows,
                         after.prompt_rows - before.prompt_rows,
                         after.rejected_rows - before.rejected_rows,
                         engine_.running(),
                         engine_.waiting()};
    trace_.steps.push_back(step);
    for (const auto& [index, tokens] : news) {
      std::vector<double>& times = trace_.requests[index].token_times;
      times.insert(times.end(), tokens, step.end);
    }
  }

  Engine& engine_;
  const LoadPlan& plan_;
  LoadClock& clock_;
  LoadTrace trace_;
  std::unordered_map<int64_t, size_t> index_of_;
  size_t next_ = 0, finished_ = 0;
};

}  // namespace

std::vector<double> poisson_arrivals(int64_t count, double rate, uint64_t seed) {
  AERIE_CHECK(rate > 0, "a rate of {} requests a second brings none", rate);
  std::vector<double> times;
  double time = 0;
  for (int64_t i = 0; i < count; ++i) {
    times.push_back(time);
    time -= std::log1p(-counter_uniform(seed, i)) / rate;
  }
  return times;
}

WallClock::WallClock() : start_(seconds_now()) {}
double WallClock::now() const { return seconds_now() - start_; }
void WallClock::wait_until(double time) {
  const double left = time - now();
  if (left > 0) std::this_thread::sleep_for(std::chrono::duration<double>(left));
}

double RequestTrace::slowest_stretch() const {
  constexpr size_t kStretch = 16;
  const size_t gaps = std::min(kStretch, token_times.size() - 1);
  double slowest = 0;
  for (size_t last = gaps; gaps > 0 && last < token_times.size(); ++last) {
    const double seconds = token_times[last] - token_times[last - gaps];
    slowest = std::max(slowest, seconds / static_cast<double>(gaps));
  }
  return slowest;
}

LoadTrace run_load(Engine& engine, const LoadPlan& plan, LoadClock& clock) {
  AERIE_CHECK(plan.arrivals.empty() || plan.arrivals.size() == plan.requests.size(),
              "{} arrivals for {} requests", plan.arrivals.size(), plan.requests.size());
  AERIE_CHECK(plan.streams > 0, "a closed loop needs at least one stream, not {}", plan.streams);
  return LoadRunner(engine, plan, clock).run();
}

}  // namespace aerie
