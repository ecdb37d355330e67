// One target forward a step over the rows of all running sequences: prompts in pieces, last tokens,
// guesses. What a row means is the decoder's business.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "decoding/decoder.h"
#include "decoding/page_table.h"
#include "decoding/scheduler.h"
#include "target_models/model.h"

namespace aerie {

struct EngineOptions {
  SchedulerLimits limits;
  int64_t pages = 0;  ///< of the cache; KvPool::kPageSize tokens each
  /// What forwards cost here (measure_step_cost): adaptive speculation and
  /// limits.inter_token_seconds need it.
  std::optional<StepCost> cost = std::nullopt;
  /// The costs follow what steps take. Not where time passes as a table says.
  bool learn_cost = true;
};

/// Seconds since the engine was made.
struct TimeSplit {
  double target = 0, draft = 0, verify = 0, schedule = 0;
};

/// Counts since the engine was made: they do not drift on a busy machine.
struct EngineCounts {
  int64_t forwards = 0, rows = 0, prompt_rows = 0, logit_rows = 0, rejected_rows = 0;
  int64_t evictions = 0;    ///< sequences that lost their pages and came again
  int64_t shared_rows = 0;  ///< prompt rows that were found in the cache
};

class Engine {
 public:
  /// Called with the new tokens of one sequence; `sequence.finish` tells whether it goes on. The
  /// sequence is gone after the call that finishes it.
  using OnTokens = std::function<void(const Sequence& sequence, std::span<const int32_t> tokens)>;

  /// Both must outlive the engine.
  Engine(const TargetModel& target, Decoder& decoder, EngineOptions options);

  /// Queues a request and returns its id. Throws Error for one that can never run: an empty or
  /// over-long prompt, a token outside the vocabulary, more pages than there are.
  int64_t submit(Request request);
  /// One forward. False if there is nothing to do.
  bool step(const OnTokens& on_tokens);
  /// Drops a request and frees its pages at once. False if it is not there (any more).
  bool abort(int64_t id);

  bool idle() const { return scheduler_.idle(); }
  int64_t waiting() const { return scheduler_.waiting(); }
  int64_t running() const { return static_cast<int64_t>(scheduler_.running().size()); }
  const TimeSplit& times() const { return times_; }
  const EngineCounts& counts() const { return counts_; }
  /// What the latest forward was made of.
  const StepShape& last_step() const { return last_step_; }
  const PageTable& pages() const { return table_; }
  /// The table of step costs as it is now; null without one.
  const StepCost* cost() const { return cost_ ? &*cost_ : nullptr; }
  /// Throws unless the counters and pages of all sequences add up.
  void check_invariants() const;

 private:
  struct Step {
    std::vector<Sequence*> sequences;
    std::vector<Chunk> chunks;
  };
  Step plan();
  Step plan_once();
  void write(const Step& step);
  ForwardOutput forward(Batch& batch);
  void move_kept_rows(const Step& step, std::span<const Verdict> verdicts);
  void commit(Sequence& sequence, const Verdict& verdict, const OnTokens& on_tokens);
  void count(const Step& step, std::span<const Verdict> verdicts);

  const TargetModel& target_;
  Decoder& decoder_;
  PageTable table_;
  Scheduler scheduler_;
  std::vector<int64_t> capture_layers_;
  KvPool pool_;
  std::optional<StepCost> cost_;
  const bool learn_cost_;
  StepShape last_step_;
  int64_t next_id_ = 0;
  TimeSplit times_;
  EngineCounts counts_;
};

/// Throws Error if no engine of this model could ever run the request: an empty or over-long
/// prompt, a token outside the vocabulary, nothing to generate.
void check_request(const Request& request, const ModelConfig& config);

/// Pages with which `concurrency` of the requests can run at a time, whichever they are.
int64_t pages_for_requests(std::span<const Request> requests, int64_t concurrency);

/// One finished request.
struct Completion {
  std::vector<int32_t> tokens;  ///< output only
  FinishReason finish = FinishReason::kRunning;
  DraftStats stats;
};
/// Runs all requests and returns their outputs in order. `on_finish` hears of each as it ends.
std::vector<Completion> run_requests(
    Engine& engine, std::span<const Request> requests,
    const std::function<void(size_t index, const Completion&)>& on_finish = {});

}  // namespace aerie
