// aerie serve: an OpenAI-compatible server.
#include <cmath>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/error.h"
#include "common/log.h"
#include "decoding/clock.h"
#include "decoding/commands.h"
#include "decoding/flags.h"
#include "decoding/http_server.h"
#include "decoding/text_target.h"

namespace aerie {

namespace {

constexpr double kLookSeconds = 1;  // how soon a broken engine ends the server

// Signals that end the server. Blocked in all threads, so that one of them can wait for them.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a caller that went away is an error of its write, no more
  }
  /// Whether one came within `seconds`.
  bool wait(double seconds) const {
    const timespec time{static_cast<time_t>(seconds),
                        static_cast<long>((seconds - std::floor(seconds)) * 1e9)};
    return sigtimedwait(&set_, nullptr, &time) > 0;
  }

 private:
  sigset_t set_;
};

// Lets what runs come to its end; a second signal or the time limit cuts it short.
void drain(EngineService& service, const EndSignals& signals, double seconds) {
  service.close();
  log_info(fmt::format("no more requests are taken; those that run have {:.0f} s", seconds));
  const double end = seconds_now() + seconds;
  while (!service.drain(0.05)) {
    if (seconds_now() > end || signals.wait(0.05)) {
      log_warning("requests are cut off");
      return;
    }
  }
}

std::string model_name(const ServeFlags& flags) {
  if (!flags.name.empty()) return flags.name;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(flags.target);
  return whole.filename().string();
}

EngineOptions engine_options(const ServeFlags& flags, const TargetModel& target, int64_t pages) {
  constexpr int64_t kServedRows = 128;  // without a target for the time between tokens
  int64_t rows = flags.row_budget;
  if (rows == 0) rows = flags.inter_token_ms > 0 ? kRowBudget : kServedRows;
  EngineOptions options{limits_of(flags, flags.policy, rows), pages};
  if (needs_cost(flags, flags)) options.cost = measure_step_cost(target, rows);
  return options;
}

int64_t context_of(const ServeFlags& flags, const ModelConfig& config) {
  AERIE_CHECK(flags.context <= config.max_position,
              "--max-model-len {} is more than the model's {} (max_position_embeddings)",
              flags.context, config.max_position);
  return flags.context > 0 ? flags.context : config.max_position;
}

int64_t pages_of(const ServeFlags& flags, const TextTarget& target, int64_t context) {
  if (flags.kv_tokens > 0) return PageTable::pages_for(flags.kv_tokens);
  Request longest;
  longest.max_new_tokens = context;
  return target.pages_for(std::vector<Request>(flags.max_sequences, longest), flags.max_sequences);
}

std::string guesses_of(const ServeFlags& flags) {
  if (flags.decoder == "diffusion") return fmt::format(", windows of {} masks", flags.window);
  if (flags.draft.empty() && flags.decoder != "ngram") return "";
  const bool tree = flags.tree && flags.decoder != "ngram";
  return fmt::format(", {}{} {} a step", flags.adaptive ? "up to " : "",
                     tree ? flags.tree_nodes : flags.draft_tokens,
                     flags.decoder == "ngram" ? "guesses" : "drafts");
}

void announce(const ServeFlags& flags, const std::string& name, int port, int64_t pages) {
  log_info(fmt::format(
      "serving {} on http://{}:{}/v1, {} sequences at a time, cache of {} tokens{}", name,
      flags.host, port, flags.max_sequences, pages * KvPool::kPageSize, guesses_of(flags)));
  if (!flags.json) return;
  const Json line{{"host", flags.host}, {"port", port}, {"model", name}};
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

}  // namespace

void serve_command(const ServeFlags& flags) {
  const EndSignals signals;  // first: threads inherit what is blocked
  const TextTarget target(flags.target, flags.device, flags.dtype);
  AERIE_CHECK(
      !target.speech,
      "--target {}: it speaks, and OpenAI's requests for text cannot carry what it reads: use "
      "aerie generate",
      flags.target.string());
  const std::unique_ptr<Decoder> decoder = decoder_of(flags, *target.model);
  const int64_t context = context_of(flags, target.model->config());
  const int64_t pages = pages_of(flags, target, context);
  Engine engine(*target.model, *decoder, engine_options(flags, *target.model, pages));
  const std::string name = model_name(flags);
  ServerMetrics metrics(name);
  EngineService service(engine, metrics, flags.max_requests);
  ApiLimits limits;
  limits.context = std::min(context, pages * KvPool::kPageSize);
  limits.longest_token = longest_token(target.tokenizer);
  limits.max_choices = std::min(limits.max_choices, flags.max_requests);
  ApiServer api(target, service, metrics, name, limits);
  HttpServer server(api, {flags.host, static_cast<int>(flags.port), flags.api_key,
                          flags.max_body_mb << 20, flags.max_requests + 128});
  announce(flags, name, server.port(), pages);
  std::thread ender([&] {
    while (!signals.wait(kLookSeconds) && !service.broken()) continue;
    drain(service, signals, flags.drain_seconds);
    server.stop();
  });
  server.run();
  ender.join();
  AERIE_CHECK(!service.broken(), "{}", service.closed_because());  // for who restarts it
  log_info("stopped");
}

}  // namespace aerie
