// Scalar functions that vectorise inside plain loops; internal linkage, as they are compiled for
// several instruction sets.
#pragma once
#include "kernels/cpu/bf16.h"

namespace aerie::cpu {
namespace {

/// e^x to about 2 units in the last place: 2^n times a polynomial (Taylor of e^r for |r| <=
/// ln(2)/2). Below -87: 0.
[[maybe_unused]] inline float exponential(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float low = x < -87.0f ? -87.0f : x, clamped = low > 88.0f ? 88.0f : low;
  const float n =
      (clamped * kLog2e + 12582912.0f) - 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float result = p * as_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
  return x < -87.0f ? 0.0f : result;
}

constexpr int64_t kLanes = 32;

/// Combines kLanes partial results pairwise, in a fixed order.
template <typename Combine>
inline float fold_lanes(float* partial, const Combine& combine) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane)
      partial[lane] = combine(partial[lane], partial[lane + half]);
  }
  return partial[0];
}

}  // namespace
}  // namespace aerie::cpu
