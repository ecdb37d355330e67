// bf16 <-> f32 for sources that are compiled for several instruction sets: internal linkage, so
// that the linker cannot take one set's copy for another's.
#pragma once
#include <cstdint>

#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

[[maybe_unused]] inline float as_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
[[maybe_unused]] inline uint32_t as_bits(float value) {
  return __builtin_bit_cast(uint32_t, value);
}

[[maybe_unused]] inline float widen(bf16 value) {
  return as_float(static_cast<uint32_t>(value) << 16);
}
[[maybe_unused]] inline float widen(float value) { return value; }

/// To nearest, ties to even; NaN stays NaN.
template <typename T>
inline T narrow(float value);
template <>
[[maybe_unused]] inline float narrow<float>(float value) {
  return value;
}
template <>
[[maybe_unused]] inline bf16 narrow<bf16>(float value) {
  const uint32_t bits = as_bits(value);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  return static_cast<bf16>(((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded) >> 16);
}

}  // namespace
}  // namespace aerie::cpu
