// Plain loops over the packed form, for any machine.
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_write_loops.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kRowsAtOnce = 4, kTileSize = kTileOutputs * kKBlock;

/// sums [4][16] = four rows by one tile column of the panel
void sum_tile(const bf16* const* a, const bf16* b, int64_t blocks, float (*sums)[kTileOutputs]) {
  float acc[kRowsAtOnce][kTileOutputs] = {};
  for (int64_t i = 0; i < blocks; ++i, b += 2 * kTileSize) {
    for (int64_t pair = 0; pair < kKBlock / 2; ++pair) {
      uint32_t both[kTileOutputs];
      __builtin_memcpy(both, b + pair * 2 * kTileOutputs, sizeof both);
      for (int64_t r = 0; r < kRowsAtOnce; ++r) {
        const bf16* x = a[r] + i * kKBlock + pair * 2;
        const float even = widen(x[0]), odd = widen(x[1]);
        for (int64_t n = 0; n < kTileOutputs; ++n) {
          acc[r][n] += even * as_float(both[n] << 16);
          acc[r][n] += odd * as_float(both[n] & 0xffff0000u);
        }
      }
    }
  }
  __builtin_memcpy(sums, acc, sizeof acc);
}

}  // namespace

void gemm_block_portable(const Gemm& g, const GemmBlock& block) {
  const int64_t blocks = g.k / kKBlock;
  float sums[kRowsAtOnce][kTileOutputs];
  for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    for (int64_t row = block.row_begin; row < block.row_end; row += kRowsAtOnce) {
      const int64_t left = block.row_end - row, rows = left < kRowsAtOnce ? left : kRowsAtOnce;
      // Missing rows repeat the last one: the same code for any number of rows gives the same bits.
      const bf16* a[kRowsAtOnce];
      for (int64_t r = 0; r < kRowsAtOnce; ++r)
        a[r] = g.a + (row + (r < rows ? r : rows - 1)) * g.lda;
      for (int64_t half = 0; half < 2; ++half) {
        const int64_t column = panel * kPanel + half * kTileOutputs;
        if (column >= g.n) break;
        sum_tile(a, g.b + panel * blocks * 2 * kTileSize + half * kTileSize, blocks, sums);
        write_tile(g, row, column, rows, sums);
      }
    }
  }
}

}  // namespace aerie::cpu
