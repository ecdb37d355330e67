// One background thread that works through tasks in the order in which they were given.
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace aerie {

/// After a task has thrown, later ones are dropped until the exception has been reported.
class Worker {
 public:
  /// At most `limit` tasks wait or run at a time: what a task holds in memory is bounded by it.
  explicit Worker(size_t limit = 1);
  /// Lets everything that was submitted finish; an exception that nobody asked for is lost.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Waits for room. Rethrows what an earlier task threw.
  void submit(std::function<void()> task);
  /// Returns once all tasks are done. Rethrows what one of them threw.
  void wait();

 private:
  void work();
  void rethrow();

  size_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;  // the first is the one that runs
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace aerie
