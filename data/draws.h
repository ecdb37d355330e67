// Random draws as a pure function of counters: nothing of them has to be kept in checkpoints.
#pragma once
#include <cstdint>

namespace aerie {

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): 64 well mixed bits of a counter.
inline uint64_t split_mix(uint64_t counter) {
  uint64_t z = counter + 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

/// Uniform in [0, 1) with 53 random bits, a function of (key, counter).
inline double uniform_draw(uint64_t key, uint64_t counter) {
  return static_cast<double>(split_mix(key ^ split_mix(counter)) >> 11) * 0x1p-53;
}

}  // namespace aerie
