// The plots of the benchmark's page, as SVG that takes its colours from the page.
#pragma once
#include <string>
#include <vector>

#include "decoding/bench.h"

namespace aerie {

/// Labels of the speculative runs, in order of appearance; each has a colour.
std::vector<std::string> series_labels(const BenchReport& report);

std::string speedup_plot(const BenchReport& report);
/// Bars of the medians; a line from the slowest to the fastest repeat.
std::string throughput_plot(const BenchReport& report);
/// Share of the guesses that held over their depth, at the first concurrency.
std::string depth_plot(const BenchReport& report);
std::string time_split_plot(const BenchReport& report);

}  // namespace aerie
