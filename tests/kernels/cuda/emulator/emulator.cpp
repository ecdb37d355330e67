#include "tests/kernels/cuda/emulator/emulator.h"

#include <fmt/format.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace emulator {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // touched only as far as it is used
constexpr size_t kGuardBytes = 256;
constexpr std::byte kPoison{0xff};  // a NaN in every float type

enum class Wait { kNone, kBlock, kWarp, kDone };

/// Where a fiber or the scheduler stands. A fiber begins by ucontext; afterwards setjmp and longjmp
/// switch, which, unlike swapcontext, make no system call. Under the address sanitizer, which
/// follows only swapcontext, that does all.
struct Context {
  ucontext_t start{};
  jmp_buf place{};
  bool started = false;
};

#ifdef __SANITIZE_ADDRESS__
void switch_context(Context& from, Context& to) { swapcontext(&from.start, &to.start); }
#else
void switch_context(Context& from, Context& to) {
  if (_setjmp(from.place) != 0) return;
  from.started = true;
  if (to.started) _longjmp(to.place, 1);
  setcontext(&to.start);
}
#endif

struct Fiber {
  Context context;
  std::unique_ptr<std::byte[]> stack;
  Wait wait = Wait::kNone;
  Where where;
  unsigned mask = 0;                                   // of the lanes it waits for
  uint64_t given = 0;                                  // to those lanes
  const std::array<uint64_t, 32>* received = nullptr;  // from them
  std::array<uint64_t, 32> gathered{};  // what the group of which this is the first lane exchanged
};

struct Block {
  Context scheduler;
  std::vector<Fiber> fibers;
  std::vector<unsigned> turns;  // the order of turns
  std::vector<std::byte> shared;
  size_t shared_bytes = 0;
  const std::function<void()>* body = nullptr;
  std::exception_ptr error;
  unsigned running = 0;
};

Block block;
Order order = Order::kForward;

std::string place(const Fiber& fiber) {
  if (fiber.wait == Wait::kDone) return "has ended";
  const char* kind = fiber.wait == Wait::kBlock ? "waits for the block" : "waits for its warp";
  const std::string file = fiber.where.file_name();
  return fmt::format("{} at {}:{}", kind, file.substr(file.rfind('/') + 1), fiber.where.line());
}

/// Where the threads are, one line for every range of threads at the same place.
std::string places() {
  std::string text;
  for (size_t first = 0; first < block.fibers.size();) {
    const std::string here = place(block.fibers[first]);
    size_t last = first;
    while (last + 1 < block.fibers.size() && place(block.fibers[last + 1]) == here) ++last;
    text += fmt::format("\n  threads {}..{}: {}", first, last, here);
    first = last + 1;
  }
  return text;
}

void enter_fiber() {
  try {
    (*block.body)();
  } catch (...) {
    block.error = std::current_exception();
  }
  Fiber& self = block.fibers[block.running];
  self.wait = Wait::kDone;
  switch_context(self.context, block.scheduler);
}

void start_fiber(Fiber& fiber) {
  fiber.wait = Wait::kNone;
  if (!fiber.stack) fiber.stack.reset(new std::byte[kStackBytes]);
  fiber.context.started = false;
  ucontext_t& start = fiber.context.start;
  getcontext(&start);
  start.uc_stack.ss_sp = fiber.stack.get();
  start.uc_stack.ss_size = kStackBytes;
  start.uc_link = nullptr;
  makecontext(&start, enter_fiber, 0);
}

void pause_fiber(Wait wait, const Where& where) {
  Fiber& self = block.fibers[block.running];
  self.wait = wait;
  self.where = where;
  switch_context(self.context, block.scheduler);
}

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column();
}

/// Whether all lanes that `leader` waits for wait with it; then lets them go on with each other's
/// values.
bool release_group(size_t warp, Fiber& leader) {
  const size_t lanes = std::min<size_t>(32, block.fibers.size() - warp);
  for (size_t lane = 0; lane < 32; ++lane) {
    if (!(leader.mask >> lane & 1u)) continue;
    if (lane >= lanes) return false;
    const Fiber& fiber = block.fibers[warp + lane];
    if (fiber.wait != Wait::kWarp || fiber.mask != leader.mask) return false;
    if (!same_place(fiber.where, leader.where)) return false;
    leader.gathered[lane] = fiber.given;
  }
  for (size_t lane = 0; lane < lanes; ++lane) {
    if (!(leader.mask >> lane & 1u)) continue;
    block.fibers[warp + lane].received = &leader.gathered;
    block.fibers[warp + lane].wait = Wait::kNone;
  }
  return true;
}

/// Lets every complete group of lanes go on. Returns whether there was one.
bool release_warps() {
  bool released = false;
  for (size_t thread = 0; thread < block.fibers.size(); ++thread) {
    Fiber& fiber = block.fibers[thread];
    const bool first = (fiber.mask & ((1u << thread % 32) - 1)) == 0;  // of its group
    if (fiber.wait == Wait::kWarp && first) released |= release_group(thread / 32 * 32, fiber);
  }
  return released;
}

/// Lets the block go on if all threads wait at one barrier.
bool release_block() {
  const Fiber& leader = block.fibers.front();
  for (const Fiber& fiber : block.fibers) {
    if (fiber.wait != Wait::kBlock || !same_place(fiber.where, leader.where)) return false;
  }
  for (Fiber& fiber : block.fibers) fiber.wait = Wait::kNone;
  return true;
}

void give_turns() {
  for (const unsigned thread : block.turns) {
    Fiber& fiber = block.fibers[thread];
    if (fiber.wait != Wait::kNone) continue;
    block.running = thread;
    threadIdx = {thread, 0, 0};
    switch_context(block.scheduler, fiber.context);
    if (block.error) std::rethrow_exception(std::exchange(block.error, nullptr));
  }
}

bool all_done() {
  return std::all_of(block.fibers.begin(), block.fibers.end(),
                     [](const Fiber& f) { return f.wait == Wait::kDone; });
}

void check_guard() {
  const auto end = block.shared.begin() + std::ptrdiff_t(block.shared_bytes);
  if (std::any_of(end, block.shared.end(), [](std::byte b) { return b != kPoison; })) {
    throw std::runtime_error(
        fmt::format("a write past the {} bytes of dynamic shared memory", block.shared_bytes));
  }
}

void run_block() {
  std::fill(block.shared.begin(), block.shared.end(), kPoison);
  for (Fiber& fiber : block.fibers) start_fiber(fiber);
  while (true) {
    give_turns();
    if (all_done()) break;
    if (!release_warps() && !release_block()) {
      throw std::runtime_error("the threads of a block do not meet:" + places());
    }
  }
  check_guard();
}

std::vector<unsigned> turns_of(unsigned count) {
  std::vector<unsigned> turns(count);
  std::iota(turns.begin(), turns.end(), 0u);
  if (order == Order::kReverse) std::reverse(turns.begin(), turns.end());
  if (order == Order::kShuffled) std::shuffle(turns.begin(), turns.end(), std::mt19937(count));
  return turns;
}

}  // namespace

void set_order(Order wanted) { order = wanted; }

void run(Index blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
  if (threads == 0 || threads > 1024) {
    throw std::runtime_error(fmt::format("a block of {} threads: 1 to 1024 are possible", threads));
  }
  if (blocks.y > 65535 || blocks.z > 65535) {
    throw std::runtime_error(
        fmt::format("a grid of y {} and z {} blocks: 65535 are possible", blocks.y, blocks.z));
  }
  block.body = &body;
  block.fibers.resize(threads);
  block.turns = turns_of(threads);
  block.shared_bytes = shared_bytes;
  block.shared.resize(shared_bytes + kGuardBytes);
  blockDim = {threads, 1, 1};
  gridDim = blocks;
  for (const unsigned index : turns_of(blocks.x * blocks.y * blocks.z)) {
    blockIdx = {index % blocks.x, index / blocks.x % blocks.y, index / blocks.x / blocks.y};
    run_block();
  }
}

void meet_block(const Where& where) { pause_fiber(Wait::kBlock, where); }

const std::array<uint64_t, 32>& meet_warp(unsigned mask, uint64_t value, const Where& where) {
  Fiber& self = block.fibers[block.running];
  if (!(mask >> (block.running % 32) & 1u)) {
    throw std::runtime_error(
        fmt::format("lane {} is not in the mask {:#x} it meets with", block.running % 32, mask));
  }
  self.mask = mask;
  self.given = value;
  pause_fiber(Wait::kWarp, where);
  return *self.received;
}

uint64_t pick(const std::array<uint64_t, 32>& values, unsigned mask, int lane, const Where& where) {
  if (lane < 0 || lane > 31 || !(mask >> lane & 1u)) {
    throw std::runtime_error(
        fmt::format("a shuffle reads lane {}, which is not in the mask {:#x} (line {})", lane, mask,
                    where.line()));
  }
  return values[size_t(lane)];
}

std::byte* shared_memory() { return block.shared.data(); }

}  // namespace emulator

namespace aerie {

void set_thread_order(int order) { emulator::set_order(emulator::Order(order)); }

}  // namespace aerie
