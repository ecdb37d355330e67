// Replaces the global operator new of a program by one that counts. Include it in one source of a
// program.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>

namespace aerie::testing {
/// Calls of operator new by this thread so far.
inline thread_local int64_t allocations = 0;
}  // namespace aerie::testing

// NOLINTBEGIN(misc-definitions-in-headers)
void* operator new(size_t bytes) {
  ++aerie::testing::allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {  // std::stable_sort's
  ++aerie::testing::allocations;
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
// NOLINTEND(misc-definitions-in-headers)
