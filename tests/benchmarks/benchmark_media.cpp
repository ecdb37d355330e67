// How fast media files become what a tower reads, decoding included, as one JSON object on stdout:
//   benchmark_media MODEL_DIRECTORY THREADS image|audio FILE...
// Threads take files in turn. scripts/benchmark_media.py runs it beside transformers' processors.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "common/threads.h"
#include "data/media_processor.h"

namespace aerie {
namespace {

struct Rate {
  double seconds = 0;
  int64_t bytes = 0;  ///< of features, so that nothing is left out
};

Rate measure(const MediaProcessor& processor, const std::vector<std::string>& files) {
  std::atomic<int64_t> bytes = 0;
  const auto start = std::chrono::steady_clock::now();
  parallel_for(0, static_cast<int64_t>(files.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      bytes += static_cast<int64_t>(processor.load(files[static_cast<size_t>(i)]).values.nbytes());
    }
  });
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return {taken.count(), bytes};
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fputs("usage: benchmark_media MODEL_DIRECTORY THREADS image|audio FILE...\n", stderr);
    return 2;
  }
  at::set_num_threads(1);
  aerie::set_num_threads(std::atoi(argv[2]));
  const aerie::MediaProcessors processors = aerie::read_media_processors(argv[1]);
  const bool image = argv[3] == std::string_view("image");
  const auto& processor =
      processors.of(image ? aerie::MediaKind::kImage : aerie::MediaKind::kAudio);
  const std::vector<std::string> files(argv + 4, argv + argc);
  const aerie::Rate rate = aerie::measure(processor, files);
  fmt::print("{{\"seconds\": {}, \"bytes\": {}}}\n", rate.seconds, rate.bytes);
}
