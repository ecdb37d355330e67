#include <atomic>
#include <chrono>
#include <memory>

#include "common/threads.h"
#include "kernels/ops.h"

namespace aerie::ops {
namespace {

/// One load a cache line is enough to move it; fetching ahead by hand goes past the borders of
/// pages, where the hardware's own fetching stops.
uint64_t touch_lines(const uint64_t* words, int64_t begin, int64_t end) {
  constexpr int64_t kLine = 8, kAhead = 512;
  uint64_t sum = 0;
  for (int64_t i = begin; i < end; i += kLine) {
    __builtin_prefetch(words + i + kAhead);
    sum += words[i];
  }
  return sum;
}

}  // namespace

double measure_read_bandwidth(int64_t bytes) {
  const int64_t words = std::max<int64_t>(bytes, 1 << 20) / 8, grain = 1 << 16;
  const auto buffer = std::make_unique_for_overwrite<uint64_t[]>(words);
  parallel_for(0, words, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) buffer[i] = i;
  });
  double best = 0;
  std::atomic<uint64_t> total = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    parallel_for(0, words, grain, [&](int64_t begin, int64_t end) {
      total += touch_lines(buffer.get(), begin, end);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, words * 8 / time.count());
  }
  // The sum is used, or the reads could be left out.
  return total.load() == 1 ? 0 : best;
}

}  // namespace aerie::ops
