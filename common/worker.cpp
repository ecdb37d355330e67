#include "common/worker.h"

#include <utility>

namespace aerie {

Worker::Worker(size_t limit) : limit_(limit), thread_([this] { work(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Worker::submit(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return tasks_.size() < limit_; });
  rethrow();
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

void Worker::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return tasks_.empty(); });
  rethrow();
}

void Worker::rethrow() {
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Worker::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    if (!error_) {
      // Moved out, so that what the task holds is free when it counts as done.
      std::function<void()> task = std::move(tasks_.front());
      lock.unlock();
      std::exception_ptr thrown;
      try {
        task();
      } catch (...) {
        thrown = std::current_exception();
      }
      task = nullptr;
      lock.lock();
      error_ = thrown;
    }
    tasks_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace aerie
