// Progress of long work: a bar on a terminal, one line a minute otherwise.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace aerie {

class Progress {
 public:
  /// `total` in units of `unit` ("rows", "tokens"); 0 if unknown.
  Progress(std::string label, int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Sets the work done so far; `note` is shown behind the bar ("loss 2.31  tau 1.8").
  void update(int64_t done, const std::string& note = {});
  /// Draws the last state and ends the line. Called by the destructor if it was not called before.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  std::string label_, unit_, note_;
  int64_t total_ = 0, done_ = 0;
  Clock::time_point start_, last_drawn_;
  bool terminal_ = false, finished_ = false;
};

}  // namespace aerie
