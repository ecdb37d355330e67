#include "decoding/server_metrics.h"

#include <algorithm>

#include "decoding/clock.h"

namespace aerie {

namespace {

std::string head(const std::string& name, const char* kind, const char* help) {
  return fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, kind);
}

// As Prometheus' text form wants the value of a label.
std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return text;
}

std::string labelled(const std::string& name, const std::string& labels, double value) {
  return fmt::format("{}{{{}}} {}\n", name, labels, value);
}

}  // namespace

void Histogram::add(double value, int64_t times) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  if (at != bounds_.end()) counts_[at - bounds_.begin()] += times;
  total_ += times;
  sum_ += value * static_cast<double>(times);
}

std::string Histogram::render(const std::string& name, const std::string& labels) const {
  std::string text;
  int64_t up_to = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    up_to += counts_[i];
    text += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bounds_[i], up_to);
  }
  text += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n", name, labels, total_);
  text += fmt::format("{}_sum{{{}}} {}\n", name, labels, sum_);
  return text + fmt::format("{}_count{{{}}} {}\n", name, labels, total_);
}

// Bounds are vLLM's, so that dashboards and alerts made for it fit.
ServerMetrics::ServerMetrics(std::string model)
    : labels_(fmt::format("model_name=\"{}\"", escaped(model))),
      first_token_({0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
                    7.5, 10.0, 20.0, 40.0, 80.0}),
      between_tokens_({0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0,
                       7.5, 10.0}),
      whole_({0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
              120.0, 240.0, 480.0}),
      prompt_length_(
          {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}),
      output_length_(
          {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}) {}

void ServerMetrics::start(int64_t id, int64_t prompt_tokens) {
  const std::lock_guard lock(mutex_);
  requests_[id] = {seconds_now(), 0, 0, prompt_tokens, 0, 0, {}};
}

void ServerMetrics::tokens(const Sequence& sequence, int64_t count) {
  const std::lock_guard lock(mutex_);
  const auto at = requests_.find(sequence.id);
  if (at == requests_.end()) return;
  Request& request = at->second;
  const double now = seconds_now();
  if (request.tokens == 0) {
    request.first = now;
    first_token_.add(now - request.arrived);
    prompt_tokens_ += request.prompt_tokens;
    prompt_length_.add(static_cast<double>(request.prompt_tokens));
  } else {
    between_tokens_.add(now - request.last);  // tokens of one step come together
    if (count > 1) between_tokens_.add(0, count - 1);
  }
  request.last = now;
  request.tokens += count;
  generated_ += count;
  count_drafts(request, sequence.stats);
  if (sequence.finish != FinishReason::kRunning) end(at, to_string(sequence.finish));
}

void ServerMetrics::finish(int64_t id, FinishReason reason) {
  const std::lock_guard lock(mutex_);
  const auto at = requests_.find(id);
  if (at != requests_.end()) end(at, to_string(reason));
}

void ServerMetrics::end(std::unordered_map<int64_t, Request>::iterator at,
                        const std::string& reason) {
  ++finished_[reason];
  whole_.add(seconds_now() - at->second.arrived);
  output_length_.add(static_cast<double>(at->second.tokens));
  requests_.erase(at);
}

// What came since the last look: a caller may end a request at any token.
void ServerMetrics::count_drafts(Request& request, const DraftStats& stats) {
  if (stats.reached.empty()) return;
  accepted_at_.resize(std::max(accepted_at_.size(), stats.accepted.size()));
  drafts_ += stats.reached[0] - request.drafts;
  request.drafts = stats.reached[0];
  request.accepted_at.resize(std::max(request.accepted_at.size(), stats.accepted.size()));
  for (size_t depth = 0; depth < stats.accepted.size(); ++depth) {
    const int64_t added = stats.accepted[depth] - request.accepted_at[depth];
    accepted_ += added;
    accepted_at_[depth] += added;
    request.accepted_at[depth] = stats.accepted[depth];
  }
}

void ServerMetrics::engine(const Engine& engine) {
  const std::lock_guard lock(mutex_);
  running_ = engine.running();
  waiting_ = engine.waiting();
  counts_ = engine.counts();
  const double total = static_cast<double>(engine.pages().total());
  cache_usage_ = 1 - static_cast<double>(engine.pages().free()) / total;
}

void ServerMetrics::refuse(int status) {
  const std::lock_guard lock(mutex_);
  ++refused_[status];
}

std::string ServerMetrics::render() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  const auto one = [&](const std::string& name, const char* kind, const char* help, double value) {
    text += head(name, kind, help) + labelled(name, labels_, value);
  };
  const auto count = [&](const std::string& name, const char* help, int64_t value) {
    one(name, "counter", help, static_cast<double>(value));
  };
  const auto histogram = [&](const std::string& name, const char* help, const Histogram& values) {
    text += head(name, "histogram", help) + values.render(name, labels_);
  };
  one("vllm:num_requests_running", "gauge", "Requests being decoded.",
      static_cast<double>(running_));
  one("vllm:num_requests_waiting", "gauge", "Requests that wait to be decoded.",
      static_cast<double>(waiting_));
  one("vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache in use; 1 is all.", cache_usage_);
  count("vllm:prompt_tokens_total", "Prompt tokens of requests with a first token.",
        prompt_tokens_);
  count("vllm:generation_tokens_total", "Tokens generated.", generated_);
  text += head("vllm:request_success_total", "counter", "Requests by how they ended.");
  for (const auto& [reason, times] : finished_) {
    text += labelled("vllm:request_success_total",
                     fmt::format("{},finished_reason=\"{}\"", labels_, reason),
                     static_cast<double>(times));
  }
  text += head("aerie:requests_refused_total", "counter", "Requests answered with an error.");
  for (const auto& [status, times] : refused_) {
    text += labelled("aerie:requests_refused_total",
                     fmt::format("{},status=\"{}\"", labels_, status), static_cast<double>(times));
  }
  histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.", first_token_);
  histogram("vllm:inter_token_latency_seconds", "Between tokens of a request.", between_tokens_);
  histogram("vllm:e2e_request_latency_seconds", "From arrival to the end.", whole_);
  histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", prompt_length_);
  histogram("vllm:request_generation_tokens", "Output tokens of a request.", output_length_);
  count("vllm:spec_decode_num_drafts_total", "Steps of requests with guesses.", drafts_);
  count("vllm:spec_decode_num_draft_tokens_total", "Guesses.", accepted_ + counts_.rejected_rows);
  count("vllm:spec_decode_num_accepted_tokens_total", "Guesses that held.", accepted_);
  text += head("vllm:spec_decode_num_accepted_tokens_per_pos_total", "counter",
               "Guesses that held, by depth.");
  for (size_t depth = 0; depth < accepted_at_.size(); ++depth) {
    text += labelled("vllm:spec_decode_num_accepted_tokens_per_pos_total",
                     fmt::format("{},position=\"{}\"", labels_, depth),
                     static_cast<double>(accepted_at_[depth]));
  }
  count("aerie:forwards_total", "Target forwards.", counts_.forwards);
  count("aerie:rows_total", "Rows of target forwards.", counts_.rows);
  count("aerie:rejected_rows_total", "Rows whose guess did not hold.", counts_.rejected_rows);
  return text;
}

}  // namespace aerie
