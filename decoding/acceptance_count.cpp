#include "decoding/acceptance_count.h"

#include <cmath>

namespace aerie {

void AcceptanceCount::add(const Completion& completion) {
  const int64_t tokens = static_cast<int64_t>(completion.tokens.size());
  tokens_ += tokens;
  const DraftStats& stats = completion.stats;
  if (stats.forwards > 0) {
    samples_.push_back({static_cast<double>(tokens - 1), static_cast<double>(stats.forwards)});
  }
  if (reached_.size() < stats.reached.size()) {
    reached_.resize(stats.reached.size());
    accepted_.resize(stats.reached.size());
  }
  for (size_t depth = 0; depth < stats.reached.size(); ++depth) {
    reached_[depth] += stats.reached[depth];
    accepted_[depth] += stats.accepted[depth];
  }
}

double AcceptanceCount::length() const {
  double decoded = 0, forwards = 0;
  for (const Sample& sample : samples_) {
    decoded += sample.decoded;
    forwards += sample.forwards;
  }
  return forwards > 0 ? decoded / forwards : 1.0;
}

std::array<double, 2> AcceptanceCount::interval() const {
  const double ratio = length();
  const double count = static_cast<double>(samples_.size());
  if (count < 2) return {ratio, ratio};
  double forwards = 0, squares = 0;
  for (const Sample& sample : samples_) {
    const double residual = sample.decoded - ratio * sample.forwards;
    squares += residual * residual;
    forwards += sample.forwards;
  }
  const double mean_forwards = forwards / count;
  const double error = std::sqrt(squares / (count - 1) / count) / mean_forwards;
  return {ratio - 1.96 * error, ratio + 1.96 * error};
}

std::vector<double> AcceptanceCount::rate_by_depth() const {
  std::vector<double> rates;
  for (size_t depth = 0; depth < reached_.size(); ++depth) {
    if (reached_[depth] == 0) break;
    rates.push_back(static_cast<double>(accepted_[depth]) / static_cast<double>(reached_[depth]));
  }
  return rates;
}

}  // namespace aerie
