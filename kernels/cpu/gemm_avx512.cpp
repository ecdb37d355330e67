// AVX-512 BF16: eight rows by a panel of 32 outputs in registers.
#include "kernels/cpu/dot_rows_avx512.h"
#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_write_avx512.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileSize = 16 * kKBlock;

/// What a group of eight rows does about the memory that a panel comes from.
enum class Fetch {
  kThis,  ///< the first rows bring the panel
  kNext,  ///< it is in the cache: those after them ask for the next one
  kNone,
};

/// The rows of `sums` from `row` on by one panel.
template <int kRows>
void rows_by_panel(DotRows<kRows> sums, const Gemm& g, int64_t row, int64_t panel, Fetch fetch) {
  const int64_t blocks = g.k / kKBlock, panel_size = blocks * 2 * kTileSize;
  const bf16* a = g.a + row * g.lda;
  const bf16* b = g.b + panel * panel_size;
  sums.clear();
  for (int64_t i = 0; i < blocks; ++i, a += kKBlock, b += 2 * kTileSize) {
    if (fetch == Fetch::kThis) {
      sums.add_stream(a, g.lda, b, kKBlock / 2);
    } else if (fetch == Fetch::kNext) {
      sums.add_fetching(a, g.lda, b, kKBlock / 2, b + panel_size);
    } else {
      sums.add(a, g.lda, b, b + kTileSize, kKBlock / 2);
    }
  }
  const int64_t column = panel * kPanel;
  const uint32_t mask = column_mask(g, column);
  for (int r = 0; r < kRows; ++r)
    write_row(g, (row + r) * g.ldc + column, mask, sums.first[r], sums.second[r]);
}

}  // namespace

void gemm_block_avx512(const Gemm& g, const GemmBlock& block) {
  for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    const bool last = panel + 1 == block.panel_end;
    for_rows(block.row_end - block.row_begin, [&](auto sums, int64_t row) {
      const Fetch fetch = row == 0 ? Fetch::kThis : row == 8 && !last ? Fetch::kNext : Fetch::kNone;
      rows_by_panel(sums, g, block.row_begin + row, panel, fetch);
    });
  }
}

}  // namespace aerie::cpu
