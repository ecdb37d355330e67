// Work memory of the CPU kernels, kept by each thread: fresh pages for every call would cost more
// than the arithmetic.
#pragma once
#include <cstddef>

namespace aerie::cpu {

/// One buffer a purpose, so that kernels that call each other do not overwrite each other's.
enum class Scratch {
  kGemmA,
  kAttention,
  kAttentionTail,
  kLogits,
  kTurned,
  kPacked,
  kHeadLoss,
  kCount
};

/// At least `bytes`, 64-byte aligned, contents undefined; valid until this thread asks again for
/// the same purpose.
void* scratch(Scratch purpose, size_t bytes);

}  // namespace aerie::cpu
