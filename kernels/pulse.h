// Which ranks live: a collective operation that fails knows an address at best, its user wants to
// know which process to look at.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "kernels/rank_store.h"

namespace aerie {

/// A thread that says twice a second that this process lives and how many exchanges it has begun,
/// and the questions that can be asked about the others. An exchange is anything that all ranks do
/// together, in the same order.
class Pulse {
 public:
  /// `server` says who serves the store, for messages: "rank 0".
  Pulse(std::shared_ptr<RankStore> store, int rank, int ranks, std::string server);
  ~Pulse();
  Pulse(const Pulse&) = delete;
  Pulse& operator=(const Pulse&) = delete;

  /// What a rank has left word of: "rank 3 ended: ...".
  static std::optional<std::string> last_word(RankStore& store, int rank);

  void begin_exchange() { ++exchange_; }
  /// Leaves word why this rank ends.
  void give_up(const std::string& reason);
  /// Who is to blame for an exchange that failed here: ranks that left word, that give no sign of
  /// life, or that live and have not come to it. Takes two seconds, ten at most. "" if all seem
  /// well.
  std::string diagnose() const;

 private:
  void beat();

  std::shared_ptr<RankStore> store_;
  int rank_, ranks_;
  std::string server_;
  std::atomic<int64_t> exchange_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

/// Keeps an eye on one rank while something is awaited from it.
class LifeWatch {
 public:
  LifeWatch(RankStore& store, int rank, std::chrono::milliseconds patience)
      : store_(store), rank_(rank), patience_(patience) {}
  /// Throws Error once the rank has left word that it ended, or has been silent for too long. Call
  /// it often.
  void check();

 private:
  using Clock = std::chrono::steady_clock;
  RankStore& store_;
  int rank_;
  std::chrono::milliseconds patience_;
  std::string last_;
  Clock::time_point heard_ = Clock::now(), asked_{};
};

}  // namespace aerie
