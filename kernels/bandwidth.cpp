#include <atomic>
#include <chrono>
#include <memory>

#include "common/threads.h"
#include "kernels/ops.h"

namespace aerie::ops {
namespace {

uint64_t sum_words(const uint64_t* words, int64_t begin, int64_t end) {
  uint64_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += words[i];
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
    parallel_for(0, words, grain,
                 [&](int64_t begin, int64_t end) { total += sum_words(buffer.get(), begin, end); });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, words * 8 / time.count());
  }
  // The sum is used, or the reads could be left out.
  return total.load() == 1 ? 0 : best;
}

}  // namespace aerie::ops
