#include "kernels/pulse.h"

#include <fmt/ranges.h>

#include <future>

#include "common/error.h"

namespace aerie {
namespace {

using namespace std::chrono_literals;

constexpr auto kBeat = 500ms;
// A living process has said something in this time, however busy its machine is.
constexpr auto kSilence = 2s;
constexpr auto kStoreAnswers = 10s;

std::string pulse_key(int rank) { return fmt::format("pulse/{}", rank); }
std::string word_key(int rank) { return fmt::format("ended/{}", rank); }

/// "beat exchange" -> exchange
int64_t exchange_of(const std::string& pulse) {
  return std::atoll(pulse.c_str() + pulse.find(' ') + 1);
}

/// Looks at all pulses twice.
std::string examine(RankStore& store, int self, int ranks, int64_t exchange) {
  std::vector<std::string> before, words, silent, late;
  for (int rank = 0; rank < ranks; ++rank) {
    before.push_back(store.look(pulse_key(rank)).value_or(""));
  }
  std::this_thread::sleep_for(kSilence);
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank == self) continue;
    const std::string now = store.look(pulse_key(rank)).value_or("");
    if (const auto word = Pulse::last_word(store, rank)) {
      words.push_back(*word);
    } else if (now == before[rank]) {
      silent.push_back(fmt::format("rank {} has died or hangs: it gives no sign of life", rank));
    } else if (exchange_of(now) < exchange) {
      late.push_back(fmt::format("rank {} lives but does not come: it is {} exchange(s) behind",
                                 rank, exchange - exchange_of(now)));
    }
  }
  // A rank that is late may be waiting for one that is silent: that one is to blame.
  const auto& blamed = !silent.empty() ? silent : !late.empty() && words.empty() ? late : words;
  return fmt::format("{}", fmt::join(blamed, "; "));
}

}  // namespace

std::optional<std::string> Pulse::last_word(RankStore& store, int rank) {
  const std::optional<std::string> word = store.look(word_key(rank));
  if (!word) return std::nullopt;
  return fmt::format("rank {} ended: {}", rank, *word);
}

Pulse::Pulse(std::shared_ptr<RankStore> store, int rank, int ranks, std::string server)
    : store_(std::move(store)), rank_(rank), ranks_(ranks), server_(std::move(server)) {
  thread_ = std::thread([this] { beat(); });
}

Pulse::~Pulse() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Pulse::beat() {
  std::unique_lock lock(mutex_);
  for (int64_t beat = 0; !stop_; ++beat) {
    lock.unlock();
    try {
      store_->put(pulse_key(rank_), fmt::format("{} {}", beat, exchange_.load()));
    } catch (const std::exception&) {
      return;  // whoever waits for something will find the store gone
    }
    lock.lock();
    wake_.wait_for(lock, kBeat, [this] { return stop_; });
  }
}

void Pulse::give_up(const std::string& reason) { store_->put(word_key(rank_), reason); }

std::string Pulse::diagnose() const {
  // A thread of its own: the store of a process that hangs does not answer, and would hang us too.
  const auto answer = std::make_shared<std::promise<std::string>>();
  std::future<std::string> future = answer->get_future();
  const std::string gone = fmt::format("{} has ended or cannot be reached", server_);
  std::thread([answer, gone, store = store_, rank = rank_, ranks = ranks_,
               exchange = exchange_.load()] {
    try {
      answer->set_value(examine(*store, rank, ranks, exchange));
    } catch (const std::exception&) {
      answer->set_value(gone);
    }
  }).detach();
  if (future.wait_for(kStoreAnswers) == std::future_status::ready) return future.get();
  return fmt::format("{} hangs: its store does not answer", server_);
}

void LifeWatch::check() {
  if (Clock::now() - asked_ < kBeat) return;
  asked_ = Clock::now();
  if (const auto word = Pulse::last_word(store_, rank_)) fail("{}", *word);
  const std::string pulse = store_.look(pulse_key(rank_)).value_or("");
  if (pulse != last_) {
    last_ = pulse;
    heard_ = asked_;
  }
  const auto silence = std::chrono::duration_cast<std::chrono::seconds>(asked_ - heard_);
  AERIE_CHECK(asked_ - heard_ < patience_,
              "rank {} has died or hangs: it has given no sign of life for {} s", rank_,
              silence.count());
}

}  // namespace aerie
