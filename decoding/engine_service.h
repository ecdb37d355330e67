// The engine behind a thread of its own, for callers on many threads. The thread sleeps while there
// is nothing to decode; callers hand requests over and wait for their tokens.
#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "decoding/engine.h"
#include "decoding/server_metrics.h"

namespace aerie {

/// What came out for one output since the last look.
struct Delivery {
  size_t index = 0;  ///< which of the requests that were submitted together
  std::vector<int32_t> tokens;
  std::vector<PlaceLogprobs> logprobs;  ///< one a token, where asked for
  FinishReason finish = FinishReason::kRunning;
};

/// More requests wait than may.
class BusyError : public Error {
 public:
  using Error::Error;
};
/// The service takes no more requests: it is shutting down, or the engine broke.
class ClosedError : public Error {
 public:
  using Error::Error;
};

class Generation;

class EngineService {
 public:
  /// Both outlive the service. At most `max_requests` outputs are decoded or wait at a time.
  EngineService(Engine& engine, ServerMetrics& metrics, int64_t max_requests);
  /// Ends what still runs as aborted.
  ~EngineService();
  EngineService(const EngineService&) = delete;
  EngineService& operator=(const EngineService&) = delete;

  /// Hands requests over and waits until the engine has taken all of them (at most one step).
  /// Throws BusyError, ClosedError, or the engine's Error for a request that can never run.
  std::unique_ptr<Generation> submit(std::vector<Request> requests);
  /// Takes no more requests from now on.
  void close();
  /// Waits until all are answered; false after `seconds`.
  bool drain(double seconds);
  /// Whether the engine broke: no request is answered any more.
  bool broken() const;
  /// Empty while the service takes requests, else why it does not.
  std::string closed_because() const;

 private:
  friend class Generation;
  /// Where the answers to one submission gather until its caller looks.
  struct Mailbox {
    std::vector<Request> requests;  // until the engine takes them
    std::vector<int64_t> ids;       // the engine's, per request
    std::vector<Delivery> deliveries;
    std::string refusal;
    bool taken = false;
    size_t running = 0;
    std::condition_variable changed;
  };
  struct Place {
    int64_t ticket;
    size_t index;
  };
  /// New tokens of one sequence, on their way to a mailbox.
  struct News {
    int64_t id;
    Delivery delivery;
  };

  void work();
  bool take_work(std::unique_lock<std::mutex>& lock);
  void take(int64_t ticket, Mailbox& mailbox);
  bool step(std::unique_lock<std::mutex>& lock);
  void deliver(std::vector<News>& news);
  void break_down(const std::string& why);
  void release(int64_t ticket);

  Engine& engine_;
  ServerMetrics& metrics_;
  const int64_t max_requests_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, drained_;
  std::unordered_map<int64_t, std::unique_ptr<Mailbox>> mailboxes_;  // by ticket
  std::unordered_map<int64_t, Place> places_;                        // by the engine's id
  std::deque<int64_t> inbox_;                                        // tickets not taken yet
  std::vector<std::pair<int64_t, FinishReason>> cancelled_;          // the engine's ids
  int64_t next_ticket_ = 0, outputs_ = 0;
  bool stop_ = false, engine_busy_ = false, broken_ = false;
  std::string closed_;
  std::thread thread_;
};

/// The caller's end of a submission. Its end cancels what still runs.
class Generation {
 public:
  Generation(EngineService& service, int64_t ticket) : service_(service), ticket_(ticket) {}
  ~Generation() { service_.release(ticket_); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// What is new; waits for it, `seconds` at most. Empty: nothing yet. Throws ClosedError if the
  /// engine broke.
  std::vector<Delivery> next(double seconds);
  /// Drops one output: nothing more comes for it. `reason` is what the metrics count.
  void cancel(size_t index, FinishReason reason = FinishReason::kAborted);

 private:
  EngineService& service_;
  int64_t ticket_;
};

}  // namespace aerie
