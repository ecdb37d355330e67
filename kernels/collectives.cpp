#include "kernels/collectives.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <mutex>

#include "common/error.h"
#include "kernels/cuda_ops.h"
#include "kernels/device.h"
#include "kernels/network_address.h"
#include "kernels/pulse.h"

namespace aerie {
namespace {

using namespace std::chrono_literals;
using StorePointer = c10::intrusive_ptr<c10d::Store>;
using BackendPointer = c10::intrusive_ptr<c10d::Backend>;
using WorkPointer = c10::intrusive_ptr<c10d::Work>;

// A process that has not been heard of for so long is dead, whatever it was doing.
constexpr std::chrono::milliseconds kPatience = 20s;
// How long the last words of the rank that serves the store stay readable, at most.
constexpr auto kLinger = 4s;

class C10dStore : public RankStore {
 public:
  explicit C10dStore(StorePointer store) : store_(std::move(store)) {}
  void put(const std::string& key, const std::string& text) override {
    store_->set(key, std::vector<uint8_t>(text.begin(), text.end()));
  }
  std::optional<std::string> look(const std::string& key) override {
    if (!store_->check({key})) return std::nullopt;
    const std::vector<uint8_t> bytes = store_->get(key);
    return std::string(bytes.begin(), bytes.end());
  }

 private:
  StorePointer store_;
};

bool serves_store(const RankPlace& place) { return place.rank == 0 && !place.launcher_serves; }

StorePointer connect(const RankPlace& place, std::chrono::seconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = serves_store(place);
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    return c10::make_intrusive<c10d::TCPStore>(place.master, options);
  } catch (const std::exception& error) {
    const c10::Error* detailed = dynamic_cast<const c10::Error*>(&error);
    fail("rank {} of {}: the store at {}:{} (MASTER_ADDR, MASTER_PORT) {} within {} s: {}",
         place.rank, place.ranks, place.master, place.port,
         options.isServer ? "could not be opened" : "could not be reached", timeout.count(),
         detailed ? detailed->what_without_backtrace() : error.what());
  }
}

/// Says that this rank is here, and waits for the others.
void meet(RankStore& store, const RankPlace& place, std::chrono::seconds timeout) {
  store.put(fmt::format("here/{}", place.rank), "");
  const auto end = std::chrono::steady_clock::now() + timeout;
  std::vector<int> missing;
  for (int rank = 0; rank < place.ranks; ++rank) missing.push_back(rank);
  for (;;) {
    std::erase_if(missing, [&](int rank) { return store.look(fmt::format("here/{}", rank)); });
    if (missing.empty()) return;
    AERIE_CHECK(std::chrono::steady_clock::now() < end,
                "rank {}: of {} ranks these have not come within {} s (train.rank_timeout): {}. "
                "Were all started, with the same MASTER_ADDR and MASTER_PORT?",
                place.rank, place.ranks, timeout.count(), fmt::join(missing, ", "));
    std::this_thread::sleep_for(20ms);
  }
}

BackendPointer gloo_backend(const StorePointer& store, const RankPlace& place,
                            std::chrono::seconds timeout) {
  const auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  options->devices.push_back(
      interface && *interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                              : c10d::ProcessGroupGloo::createDeviceForHostname(
                                    own_address(place)));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, place.rank, place.ranks, options);
}

}  // namespace

struct Ranks::Group {
  Group(const RankPlace& where, at::Device device, std::chrono::seconds limit);
  ~Group();
  c10d::Backend& backend(const at::Tensor& tensor) { return tensor.is_cuda() ? *nccl : *gloo; }
  /// Runs one exchange, and names the culprit if it fails.
  template <typename Exchange>
  void guarded(const Exchange& exchange);
  /// `exchange` begins it. -> what waits for its end
  template <typename Exchange>
  WorkPointer started(const Exchange& exchange);
  void finish(c10d::Work& work) {
    guarded([&] { work.wait(); });
  }
  /// Waits until every other rank has left or given up.
  void await_ends(std::chrono::milliseconds limit);
  /// What `from` has put under `key`, once it has.
  std::string await(const std::string& key, int from);
  [[noreturn]] void blame(const std::string& what);

  RankPlace place;
  std::chrono::milliseconds patience;
  StorePointer connection;
  std::shared_ptr<RankStore> store;
  BackendPointer gloo, nccl;
  std::unique_ptr<Pulse> pulse;
  std::vector<WorkPointer> sums;
  int64_t told = 0;  // texts that were shared or gathered
  bool broken = false;
};

Ranks::Group::Group(const RankPlace& where, at::Device device, std::chrono::seconds limit)
    : place(where), patience(std::min<std::chrono::milliseconds>(limit, kPatience)) {
  const StorePointer whole = connect(place, limit);
  connection = c10::make_intrusive<c10d::PrefixStore>("aerie", whole);
  store = std::make_shared<C10dStore>(connection);
  meet(*store, place, limit);
  const std::string server = place.launcher_serves ? "the launcher" : "rank 0";
  pulse = std::make_unique<Pulse>(
      std::make_shared<C10dStore>(c10::make_intrusive<c10d::PrefixStore>("aerie", whole->clone())),
      place.rank, place.ranks, server);
  guarded([&] {
    gloo = gloo_backend(c10::make_intrusive<c10d::PrefixStore>("gloo", connection), place, limit);
    if (!device.is_cuda()) return;
    nccl = cuda_ops().nccl_backend(c10::make_intrusive<c10d::PrefixStore>("nccl", connection),
                                   place.rank, place.ranks, limit);
  });
}

Ranks::Group::~Group() {
  if (!broken) return;
  // Their threads may wait for a rank that is gone, and joining them would take as long as they
  // do: the process is about to end, and takes them with it.
  gloo.release();
  nccl.release();
  for (auto& work : sums) work.release();
}

template <typename Exchange>
void Ranks::Group::guarded(const Exchange& exchange) {
  try {
    exchange();
  } catch (const c10::Error& error) {
    blame(error.what_without_backtrace());
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    blame(error.what());
  }
}

// c10d records what begins in one map a process, and writes to it before it takes its lock: ranks
// that are threads of one process must not begin at the same time.
template <typename Exchange>
WorkPointer Ranks::Group::started(const Exchange& exchange) {
  static std::mutex one_at_a_time;
  WorkPointer work;
  guarded([&] {
    const std::lock_guard lock(one_at_a_time);
    work = exchange();
  });
  return work;
}

void Ranks::Group::blame(const std::string& what) {
  broken = true;
  const std::string found = pulse->diagnose();
  const std::string first_line = what.substr(0, what.find('\n'));
  fail("{}. Rank {} of {} ends too; start again to go on from the last checkpoint ({})",
       found.empty() ? "an exchange between the ranks failed" : found, place.rank, place.ranks,
       first_line);
}

std::string Ranks::Group::await(const std::string& key, int from) {
  LifeWatch watch(*store, from, patience);
  std::optional<std::string> text;
  guarded([&] {
    for (auto pause = 1ms; !(text = store->look(key)); pause = std::min(2 * pause, 50ms)) {
      watch.check();
      std::this_thread::sleep_for(pause);
    }
  });
  return *text;
}

void Ranks::Group::await_ends(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  for (int rank = 1; rank < place.ranks; ++rank) {
    while (!store->look(fmt::format("left/{}", rank)) && !Pulse::last_word(*store, rank) &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(5ms);
    }
  }
}

Ranks::Ranks() = default;

Ranks::Ranks(const RankPlace& place, at::Device device, std::chrono::seconds timeout)
    : rank_(place.rank), size_(place.ranks) {
  if (size_ > 1) group_ = std::make_unique<Group>(place, device, timeout);
}

Ranks::~Ranks() = default;

void Ranks::start_sum(const at::Tensor& tensor) {
  if (alone()) return;
  std::vector<at::Tensor> list{tensor};
  group_->pulse->begin_exchange();
  group_->sums.push_back(group_->started([&] { return group_->backend(tensor).allreduce(list); }));
}

void Ranks::finish_sums() {
  if (alone()) return;
  for (const auto& work : group_->sums) group_->finish(*work);
  group_->sums.clear();
}

void Ranks::sum(const at::Tensor& tensor) {
  start_sum(tensor);
  finish_sums();
}

void Ranks::broadcast(const at::Tensor& tensor, int from) {
  if (alone()) return;
  std::vector<at::Tensor> list{tensor};
  c10d::BroadcastOptions options;
  options.rootRank = from;
  group_->pulse->begin_exchange();
  group_->finish(
      *group_->started([&] { return group_->backend(tensor).broadcast(list, options); }));
}

void Ranks::send(const at::Tensor& tensor, int to) {
  std::vector<at::Tensor> list{tensor};
  group_->finish(*group_->started([&] { return group_->backend(tensor).send(list, to, 0); }));
}

void Ranks::receive(const at::Tensor& tensor, int from) {
  std::vector<at::Tensor> list{tensor};
  group_->finish(*group_->started([&] { return group_->backend(tensor).recv(list, from, 0); }));
}

std::string Ranks::share(const std::string& text) {
  if (alone()) return text;
  const std::string key = fmt::format("share/{}", group_->told++);
  group_->pulse->begin_exchange();
  if (first()) group_->guarded([&] { group_->store->put(key, text); });
  return first() ? text : group_->await(key, 0);
}

std::vector<std::string> Ranks::gather(const std::string& text) {
  if (alone()) return {text};
  const std::string key = fmt::format("gather/{}/", group_->told++);
  group_->pulse->begin_exchange();
  group_->guarded([&] { group_->store->put(fmt::format("{}{}", key, rank_), text); });
  std::vector<std::string> texts;
  for (int from = 0; from < size_; ++from) {
    texts.push_back(group_->await(fmt::format("{}{}", key, from), from));
  }
  return texts;
}

void Ranks::leave() {
  if (alone()) return;
  try {
    group_->store->put(fmt::format("left/{}", rank_), "");
    if (serves_store(group_->place)) group_->await_ends(kPatience);
  } catch (const std::exception&) {
    // The store went first: this rank has done its part all the same.
  }
}

void Ranks::give_up(const std::string& reason) noexcept {
  if (alone()) return;
  try {
    group_->pulse->give_up(reason);
    if (!group_->broken) {
      group_->nccl.reset();
      group_->gloo.reset();  // the others' exchanges fail now, while they can still read the reason
      group_->broken = true;
    }
    if (serves_store(group_->place)) group_->await_ends(kLinger);
  } catch (const std::exception&) {
    // The store is gone, and with it whoever could have read this.
  }
}

}  // namespace aerie
