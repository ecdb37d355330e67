#include "kernels/cpu/scratch.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <array>
#include <cstdlib>
#include <memory>
#include <new>

namespace aerie::cpu {
namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Buffer {
  std::unique_ptr<void, Free> memory;
  size_t bytes = 0;
};

}  // namespace

void* scratch(Scratch purpose, size_t bytes) {
  thread_local std::array<Buffer, static_cast<size_t>(Scratch::kCount)> buffers;
  Buffer& buffer = buffers[static_cast<size_t>(purpose)];
  if (buffer.bytes < bytes) {
    // Large pages where the kernel grants them: strided access to small ones waits for the TLB.
    constexpr size_t kLargePage = size_t{2} << 20;
    const size_t unit = bytes >= kLargePage ? kLargePage : 4096,
                 rounded = (bytes + unit - 1) / unit * unit;
    buffer.memory.reset();
    buffer.memory.reset(std::aligned_alloc(unit, rounded));
#if defined(__linux__)
    if (buffer.memory && unit == kLargePage) madvise(buffer.memory.get(), rounded, MADV_HUGEPAGE);
#endif
    buffer.bytes = buffer.memory ? rounded : 0;
    if (!buffer.memory) throw std::bad_alloc();
  }
  return buffer.memory.get();
}

}  // namespace aerie::cpu
