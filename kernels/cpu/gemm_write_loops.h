// How the kernels without AVX-512 write a tile's sums to C; compiled once for each instruction set.
#pragma once
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileOutputs = 16;

/// C[row.., column..] of `rows` rows by the tile's columns that C has.
inline void write_tile(const Gemm& g, int64_t row, int64_t column, int64_t rows,
                       const float (*sums)[kTileOutputs]) {
  const int64_t columns = g.n - column < kTileOutputs ? g.n - column : kTileOutputs;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = (row + r) * g.ldc + column;
    for (int64_t n = 0; n < columns; ++n) {
      if (g.c_bf16 != nullptr) {
        g.c_bf16[at + n] = narrow<bf16>(sums[r][n]);
      } else {
        g.c_f32[at + n] = g.accumulate ? g.c_f32[at + n] + sums[r][n] : sums[r][n];
      }
    }
  }
}

}  // namespace
}  // namespace aerie::cpu
