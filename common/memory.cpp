#include "common/memory.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <thread>

namespace aerie {
namespace {

// The most that glibc accepts; larger blocks are mapped one by one.
constexpr int kMapThreshold = 32 << 20;
// As much as mallopt can ask for at a time. Only address space until it is written to.
constexpr int kHeapAhead = 2'000'000'000;
constexpr uintptr_t kHugePage = 2 << 20;

char* heap_end() { return static_cast<char*>(::sbrk(0)); }

/// Grows the heap once, far ahead, and asks for huge pages there: the advice holds for a mapping,
/// and a heap that grows bit by bit would leave it behind. Where the limits of the process do not
/// allow it, nothing changes.
void put_heap_on_huge_pages() {
  char* const before = heap_end();
  mallopt(M_TOP_PAD, kHeapAhead);
  mallopt(M_MMAP_MAX, 0);  // this block from the heap, however large: more than it has free
  void* volatile block = std::malloc(::mallinfo2().fordblks + 4096);
  std::free(block);
  mallopt(M_MMAP_MAX, 65536);
  mallopt(M_TOP_PAD, 16 << 20);
  char* const after = heap_end();
  const auto beyond = reinterpret_cast<uintptr_t>(before) % kHugePage;
  char* const begin = before + (beyond > 0 ? kHugePage - beyond : 0);
  if (after > begin) ::madvise(begin, after - begin, MADV_HUGEPAGE);
}

}  // namespace

void set_up_memory() {
  mallopt(M_MMAP_THRESHOLD, kMapThreshold);
  mallopt(M_TRIM_THRESHOLD, -1);  // never
  // Each thread's part of the heap keeps what was freed there; eight for each core, the default, is
  // more than a server with many connections can afford.
  mallopt(M_ARENA_MAX, static_cast<int>(std::thread::hardware_concurrency()) + 1);
  put_heap_on_huge_pages();
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", 0);  // the same for LibTorch's larger blocks
}

void give_back_freed_memory() { ::malloc_trim(kHeapAhead); }

}  // namespace aerie
