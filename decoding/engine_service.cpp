#include "decoding/engine_service.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/error.h"
#include "common/log.h"

namespace aerie {

EngineService::EngineService(Engine& engine, ServerMetrics& metrics, int64_t max_requests)
    : engine_(engine),
      metrics_(metrics),
      max_requests_(max_requests),
      thread_([this] { work(); }) {}

EngineService::~EngineService() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (closed_.empty()) closed_ = "the server is shutting down";
  }
  wake_.notify_all();
  thread_.join();
}

std::unique_ptr<Generation> EngineService::submit(std::vector<Request> requests) {
  std::unique_lock lock(mutex_);
  if (!closed_.empty()) throw ClosedError(closed_);
  const int64_t count = static_cast<int64_t>(requests.size());
  if (outputs_ + count > max_requests_) {
    throw BusyError(
        fmt::format("{} requests are waiting or running and at most {} may: try again later",
                    outputs_, max_requests_));
  }
  const int64_t ticket = next_ticket_++;
  Mailbox& mailbox = *(mailboxes_[ticket] = std::make_unique<Mailbox>());
  mailbox.requests = std::move(requests);
  mailbox.running = count;
  outputs_ += count;
  inbox_.push_back(ticket);
  auto generation = std::make_unique<Generation>(*this, ticket);
  wake_.notify_all();
  mailbox.changed.wait(lock, [&] { return mailbox.taken; });
  if (mailbox.refusal.empty()) return generation;
  const std::string why = mailbox.refusal;
  const bool broken = !closed_.empty() && why == closed_;
  lock.unlock();
  generation.reset();
  if (broken) throw ClosedError(why);
  throw Error(why);
}

void EngineService::close() {
  const std::lock_guard lock(mutex_);
  if (closed_.empty()) closed_ = "the server is shutting down";
}

bool EngineService::drain(double seconds) {
  std::unique_lock lock(mutex_);
  return drained_.wait_for(lock, std::chrono::duration<double>(seconds),
                           [this] { return mailboxes_.empty(); });
}

bool EngineService::broken() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

std::string EngineService::closed_because() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void EngineService::work() {
  std::unique_lock lock(mutex_);
  while (take_work(lock)) {
    try {
      engine_busy_ = step(lock);
    } catch (const std::exception& error) {
      if (!lock.owns_lock()) lock.lock();
      broken_ = true;
      break_down(fmt::format("the engine stopped: {}", error.what()));
      return;
    }
  }
  break_down(closed_);
}

// Sleeps until there is something to do, then applies cancellations and hands new requests over.
bool EngineService::take_work(std::unique_lock<std::mutex>& lock) {
  wake_.wait(lock,
             [this] { return stop_ || engine_busy_ || !inbox_.empty() || !cancelled_.empty(); });
  if (stop_) return false;
  for (const auto& [id, reason] : std::exchange(cancelled_, {})) {
    if (engine_.abort(id)) metrics_.finish(id, reason);
  }
  while (!inbox_.empty()) {
    const int64_t ticket = inbox_.front();
    inbox_.pop_front();
    if (const auto at = mailboxes_.find(ticket); at != mailboxes_.end()) take(ticket, *at->second);
  }
  return true;
}

// All requests of a submission, or none.
void EngineService::take(int64_t ticket, Mailbox& mailbox) {
  try {
    for (Request& request : mailbox.requests) {
      const int64_t prompt = static_cast<int64_t>(request.prompt.size());
      const int64_t id = engine_.submit(std::move(request));
      places_[id] = {ticket, mailbox.ids.size()};
      mailbox.ids.push_back(id);
      metrics_.start(id, prompt);
    }
  } catch (const Error& error) {
    for (const int64_t id : mailbox.ids) {
      engine_.abort(id);
      places_.erase(id);
      metrics_.finish(id, FinishReason::kAborted);
    }
    mailbox.refusal = error.what();
  }
  mailbox.requests.clear();
  mailbox.taken = true;
  mailbox.changed.notify_all();
}

bool EngineService::step(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  std::vector<News> news;
  const bool busy = engine_.step([&](const Sequence& sequence, std::span<const int32_t> tokens) {
    News one{sequence.id, {0, {tokens.begin(), tokens.end()}, {}, sequence.finish}};
    if (sequence.request.sampling.logprobs >= 0) {
      one.delivery.logprobs.assign(
          sequence.logprobs.end() - static_cast<std::ptrdiff_t>(tokens.size()),
          sequence.logprobs.end());
    }
    metrics_.tokens(sequence, static_cast<int64_t>(tokens.size()));
    news.push_back(std::move(one));
  });
  metrics_.engine(engine_);
  lock.lock();
  deliver(news);
  return busy;
}

void EngineService::deliver(std::vector<News>& news) {
  for (News& one : news) {
    const auto place = places_.find(one.id);
    if (place == places_.end()) continue;  // cancelled during the step
    Mailbox& mailbox = *mailboxes_.at(place->second.ticket);
    one.delivery.index = place->second.index;
    if (one.delivery.finish != FinishReason::kRunning) {
      places_.erase(place);
      --mailbox.running;
      --outputs_;
    }
    mailbox.deliveries.push_back(std::move(one.delivery));
    mailbox.changed.notify_all();
  }
}

// Nothing comes any more: everyone who waits is told so.
void EngineService::break_down(const std::string& why) {
  if (!stop_) log_warning(why);
  closed_ = why;
  for (auto& [ticket, mailbox] : mailboxes_) {
    if (!mailbox->taken || mailbox->running > 0) mailbox->refusal = why;
    mailbox->taken = true;
    mailbox->changed.notify_all();
  }
}

void EngineService::release(int64_t ticket) {
  const std::lock_guard lock(mutex_);
  const auto at = mailboxes_.find(ticket);
  for (const int64_t id : at->second->ids) {
    if (places_.erase(id) > 0) cancelled_.emplace_back(id, FinishReason::kAborted);
  }
  outputs_ -= static_cast<int64_t>(at->second->running);
  mailboxes_.erase(at);
  wake_.notify_all();
  if (mailboxes_.empty()) drained_.notify_all();
}

std::vector<Delivery> Generation::next(double seconds) {
  std::unique_lock lock(service_.mutex_);
  EngineService::Mailbox& mailbox = *service_.mailboxes_.at(ticket_);
  mailbox.changed.wait_for(lock, std::chrono::duration<double>(seconds),
                           [&] { return !mailbox.deliveries.empty() || !mailbox.refusal.empty(); });
  if (!mailbox.deliveries.empty()) return std::exchange(mailbox.deliveries, {});
  if (!mailbox.refusal.empty()) throw ClosedError(mailbox.refusal);
  return {};
}

void Generation::cancel(size_t index, FinishReason reason) {
  const std::lock_guard lock(service_.mutex_);
  EngineService::Mailbox& mailbox = *service_.mailboxes_.at(ticket_);
  const int64_t id = mailbox.ids.at(index);
  if (service_.places_.erase(id) == 0) return;  // finished by itself
  --mailbox.running;
  --service_.outputs_;
  service_.cancelled_.emplace_back(id, reason);
  std::erase_if(mailbox.deliveries, [&](const Delivery& one) { return one.index == index; });
  service_.wake_.notify_all();
}

}  // namespace aerie
