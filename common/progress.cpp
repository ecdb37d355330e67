#include "common/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "common/log.h"

namespace aerie {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr Seconds kTerminalInterval{0.1};
constexpr Seconds kLogInterval{60.0};

std::string duration(double seconds) {
  const int64_t s = std::llround(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string bar(double share) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * kWidth);
  std::string drawn;
  for (int i = 0; i < kWidth; ++i) drawn += i < full ? "█" : "░";
  return drawn;
}

}  // namespace

Progress::Progress(std::string label, int64_t total, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      start_(Clock::now()),
      last_drawn_(start_),
      terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { finish(); }

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  if (!note.empty()) note_ = note;
  const Seconds since = Clock::now() - last_drawn_;
  if (since >= (terminal_ ? kTerminalInterval : kLogInterval)) draw();
}

void Progress::draw() {
  last_drawn_ = Clock::now();
  const double elapsed = Seconds(last_drawn_ - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  std::string line = fmt::format("{}  ", label_);
  if (total_ > 0) {
    const double share = static_cast<double>(done_) / static_cast<double>(total_);
    if (terminal_) line += bar(share) + " ";
    line += fmt::format("{}/{} {}", done_, total_, unit_);
    if (rate > 0 && done_ < total_) {
      line += fmt::format("  {} left", duration(static_cast<double>(total_ - done_) / rate));
    }
  } else {
    line += fmt::format("{} {}", done_, unit_);
  }
  line += fmt::format("  {:.4g}/s  {}", rate, note_);
  if (terminal_) {
    fmt::print(stderr, "\r\033[K{}", line);
    std::fflush(stderr);
  } else {
    log_info(line);
  }
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  draw();
  if (terminal_) fmt::print(stderr, "\n");
}

}  // namespace aerie
