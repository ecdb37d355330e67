// What the server counts, in Prometheus' text form. Names are vLLM's where vLLM has the figure, so
// that its dashboards work.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "decoding/engine.h"

namespace aerie {

/// Counts of values up to each bound.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size()) {}
  void add(double value, int64_t times = 1);
  /// `labels`: "a=\"b\"", not empty.
  std::string render(const std::string& name, const std::string& labels) const;

 private:
  std::vector<double> bounds_;
  std::vector<int64_t> counts_;  // of values in (bounds[i-1], bounds[i]]
  int64_t total_ = 0;
  double sum_ = 0;
};

/// Safe to use from several threads at once.
class ServerMetrics {
 public:
  explicit ServerMetrics(std::string model);

  /// The engine took a request.
  void start(int64_t id, int64_t prompt_tokens);
  /// A sequence has `count` new tokens; counts it as finished where they are the last.
  void tokens(const Sequence& sequence, int64_t count);
  /// A request ended without its last token: dropped by its caller, or at a stop string.
  void finish(int64_t id, FinishReason reason);
  /// How full the engine is after a step.
  void engine(const Engine& engine);
  /// A request was answered with an error.
  void refuse(int status);

  std::string render() const;

 private:
  struct Request {
    double arrived, first = 0, last = 0;
    int64_t prompt_tokens, tokens = 0, drafts = 0;
    std::vector<int64_t> accepted_at;  // counted already, per depth
  };
  void end(std::unordered_map<int64_t, Request>::iterator at, const std::string& reason);
  void count_drafts(Request& request, const DraftStats& stats);

  const std::string labels_;
  mutable std::mutex mutex_;
  std::unordered_map<int64_t, Request> requests_;
  int64_t running_ = 0, waiting_ = 0, prompt_tokens_ = 0, generated_ = 0;
  double cache_usage_ = 0;
  EngineCounts counts_;
  std::map<std::string, int64_t> finished_;
  std::map<int, int64_t> refused_;
  int64_t drafts_ = 0, accepted_ = 0;
  std::vector<int64_t> accepted_at_;  // per depth
  Histogram first_token_, between_tokens_, whole_, prompt_length_, output_length_;
};

}  // namespace aerie
