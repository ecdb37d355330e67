// AVX2 with FMA: up to four rows by a panel of 32 outputs, a tile of 16 at a time.
#include "kernels/cpu/dot_rows_avx2.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_write_loops.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileSize = kTileOutputs * kKBlock, kPairs = kKBlock / 2;

/// Where the stream of weights is asked for, at `b`.
const char* ahead_of(const bf16* b) { return reinterpret_cast<const char*>(b) + 8192; }

template <int kRows>
void write(const DotRows<kRows>& rows, const Gemm& g, int64_t row, int64_t column) {
  float sums[kRows][kTileOutputs];
  rows.store(sums[0], kTileOutputs);
  write_tile(g, row, column, kRows, sums);
}

/// One or two rows: both tiles at once, because what a panel takes is its way from memory, which
/// must go from begin to end.
template <int kRows>
void both_tiles(const Gemm& g, int64_t row, int64_t column, const bf16* b) {
  const bf16* a = g.a + row * g.lda;
  DotRows<kRows> left, right;
  left.clear();
  right.clear();
  for (int64_t i = 0; i < g.k / kKBlock; ++i, a += kKBlock, b += 2 * kTileSize) {
    left.template add<1>(a, g.lda, b, kPairs, ahead_of(b));
    right.template add<1>(a, g.lda, b + kTileSize, kPairs, ahead_of(b + kTileSize));
  }
  write(left, g, row, column);
  if (column + kTileOutputs < g.n) write(right, g, row, column + kTileOutputs);
}

template <int kRows, int kFetched>
void one_tile(const Gemm& g, int64_t row, int64_t column, const bf16* b) {
  const bf16* a = g.a + row * g.lda;
  DotRows<kRows> sums;
  sums.clear();
  for (int64_t i = 0; i < g.k / kKBlock; ++i, a += kKBlock, b += 2 * kTileSize)
    sums.template add<kFetched>(a, g.lda, b, kPairs, ahead_of(b));
  write(sums, g, row, column);
}

/// Three or four rows fill the registers with one tile's sums; its turn brings the second tile too.
template <int kRows>
void panel_rows(const Gemm& g, int64_t row, int64_t column, const bf16* b) {
  if constexpr (kRows <= 2) {
    both_tiles<kRows>(g, row, column, b);
  } else {
    one_tile<kRows, 2>(g, row, column, b);
    if (column + kTileOutputs < g.n)
      one_tile<kRows, 0>(g, row, column + kTileOutputs, b + kTileSize);
  }
}

}  // namespace

void gemm_block_avx2(const Gemm& g, const GemmBlock& block) {
  for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    const bf16* b = g.b + panel * (g.k / kKBlock) * 2 * kTileSize;
    for_rows(block.row_end - block.row_begin, [&]<int kRows>(DotRows<kRows>, int64_t row) {
      panel_rows<kRows>(g, block.row_begin + row, panel * kPanel, b);
    });
  }
}

}  // namespace aerie::cpu
