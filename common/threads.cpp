#include "common/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "common/error.h"

namespace aerie {
namespace {

// A decode step leaves a few microseconds between two parallel regions, and waking a blocked thread
// costs more than that: so wait this long before blocking, and no longer, because other processes
// want the cores too.
constexpr std::chrono::microseconds kSpin{40};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Waits until `value` is no longer `old`: spins shortly, then blocks.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  value.wait(old, std::memory_order_acquire);
}

int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

/// One parallel loop; it lives in its caller's stack frame.
struct Job {
  int64_t end, grain;
  const std::function<void(int64_t, int64_t)>& body;
  std::atomic<int64_t> next;
  std::mutex mutex{};
  std::exception_ptr error{};

  void run() {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= end) return;
      try {
        body(begin, std::min(begin + grain, end));
      } catch (...) {
        next.store(end, std::memory_order_relaxed);
        std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
};

thread_local bool inside_loop = false;

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    stop_ = true;
    announce();
    for (std::thread& worker : workers_) worker.join();
  }

  /// False, with nothing done, where another thread's loop holds the workers.
  bool run(Job& job) {
    std::unique_lock lock(busy_, std::try_to_lock);
    if (!lock) return false;
    job_ = &job;
    gate_.store(kOpen, std::memory_order_release);
    announce();
    inside_loop = true;
    job.run();
    inside_loop = false;
    close();
    return true;
  }

 private:
  // gate_ = kOpen | number of workers inside. A worker that wakes up late finds the gate closed and
  // is not waited for.
  static constexpr uint32_t kOpen = 1u << 31;

  void announce() {
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
  }

  void close() {
    uint32_t inside = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while (inside != 0) {
      wait_while(gate_, inside);
      inside = gate_.load(std::memory_order_acquire);
    }
  }

  bool enter() {
    uint32_t gate = gate_.load(std::memory_order_acquire);
    while (gate & kOpen) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void leave() {
    if ((gate_.fetch_sub(1, std::memory_order_acq_rel) & kOpen) == 0) gate_.notify_all();
  }

  void work() {
    inside_loop = true;
    for (uint32_t seen = 0;;) {
      wait_while(epoch_, seen);
      seen = epoch_.load(std::memory_order_acquire);
      if (stop_) return;
      if (!enter()) continue;
      job_->run();
      leave();
    }
  }

  std::mutex busy_;
  Job* job_ = nullptr;
  std::atomic<bool> stop_ = false;
  alignas(64) std::atomic<uint32_t> epoch_ = 0;
  alignas(64) std::atomic<uint32_t> gate_ = 0;
  std::vector<std::thread> workers_;
};

struct Threads {
  std::mutex mutex;
  std::atomic<int> count = available_cores();
  std::unique_ptr<Pool> pool;

  Pool& get() {
    std::lock_guard lock(mutex);
    if (!pool) pool = std::make_unique<Pool>(count);
    return *pool;
  }
};

Threads& threads() {
  static Threads instance;
  return instance;
}

}  // namespace

void set_num_threads(int count) {
  AERIE_CHECK(count >= 1, "--threads is {}: it must be at least 1", count);
  AERIE_CHECK(!inside_loop, "set_num_threads was called inside parallel_for");
  Threads& all = threads();
  std::lock_guard lock(all.mutex);
  if (count != all.count) all.pool.reset();
  all.count = count;
}

int num_threads() { return threads().count; }

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t, int64_t)>& body) {
  if (begin >= end) return;
  grain = std::max<int64_t>(grain, 1);
  const bool alone = inside_loop || end - begin <= grain || num_threads() == 1;
  Job job{.end = end, .grain = grain, .body = body, .next = begin};
  if (alone || !threads().get().run(job)) job.run();
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace aerie
