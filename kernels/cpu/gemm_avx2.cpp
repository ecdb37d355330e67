// AVX2 with FMA: weights become f32 in registers, where up to four rows share them.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/gemm_kernels.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileOutputs = 16, kTileSize = kTileOutputs * kKBlock;
constexpr int64_t kAhead = 8192;  // bytes that the stream of weights is asked for ahead

const char* ahead_of(const bf16* b) { return reinterpret_cast<const char*>(b) + kAhead; }

/// The first and the second of each pair of bf16, as f32.
struct Halves {
  __m256 first, second;
};

Halves widen_pairs(__m256i pairs) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(pairs, upper))};
}

Halves pair_of(const bf16* a) {
  int32_t both;
  __builtin_memcpy(&both, a, sizeof both);
  return widen_pairs(_mm256_set1_epi32(both));
}

/// kRows rows by the 16 outputs of a tile. Each is summed in the order of k whatever kRows is.
template <int kRows>
struct TileSums {
  __m256 low[kRows], high[kRows];  // outputs 0 to 7, 8 to 15

  void clear() {
    for (int r = 0; r < kRows; ++r) low[r] = high[r] = _mm256_setzero_ps();
  }
  /// A block of k: a [kRows][32], rows `lda` apart; b one tile. `ahead`: kFetched cache lines a
  /// pair are asked for there.
  template <int kFetched>
  void add(const bf16* a, int64_t lda, const bf16* b, const char* ahead) {
    for (int64_t pair = 0; pair < kKBlock / 2; ++pair, a += 2, b += 2 * kTileOutputs) {
      for (int line = 0; line < kFetched; ++line, ahead += 64) _mm_prefetch(ahead, _MM_HINT_T0);
      const auto* pairs = reinterpret_cast<const __m256i*>(b);
      const Halves w0 = widen_pairs(_mm256_loadu_si256(pairs)),
                   w1 = widen_pairs(_mm256_loadu_si256(pairs + 1));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Halves x = pair_of(a + r * lda);
        low[r] = _mm256_fmadd_ps(x.first, w0.first, low[r]);
        high[r] = _mm256_fmadd_ps(x.first, w1.first, high[r]);
        low[r] = _mm256_fmadd_ps(x.second, w0.second, low[r]);
        high[r] = _mm256_fmadd_ps(x.second, w1.second, high[r]);
      }
    }
  }
  void write(const Gemm& g, int64_t row, int64_t column) const {
    const int64_t columns = std::min(kTileOutputs, g.n - column);
    for (int r = 0; r < kRows; ++r) {
      float sums[kTileOutputs];
      _mm256_storeu_ps(sums, low[r]);
      _mm256_storeu_ps(sums + 8, high[r]);
      const int64_t at = (row + r) * g.ldc + column;
      for (int64_t n = 0; n < columns; ++n) {
        if (g.c_bf16 != nullptr) {
          g.c_bf16[at + n] = narrow<bf16>(sums[n]);
        } else {
          g.c_f32[at + n] = g.accumulate ? g.c_f32[at + n] + sums[n] : sums[n];
        }
      }
    }
  }
};

/// One or two rows: both tiles at once, because what a panel takes is its way from memory, which
/// must go from begin to end.
template <int kRows>
void few_rows(const Gemm& g, int64_t row, int64_t panel) {
  const int64_t blocks = g.k / kKBlock, column = panel * kPanel;
  const bf16* a = g.a + row * g.lda;
  const bf16* b = g.b + panel * blocks * 2 * kTileSize;
  TileSums<kRows> left, right;
  left.clear();
  right.clear();
  for (int64_t i = 0; i < blocks; ++i, a += kKBlock, b += 2 * kTileSize) {
    left.template add<1>(a, g.lda, b, ahead_of(b));
    right.template add<1>(a, g.lda, b + kTileSize, ahead_of(b + kTileSize));
  }
  left.write(g, row, column);
  if (column + kTileOutputs < g.n) right.write(g, row, column + kTileOutputs);
}

/// One tile of a panel, b, by three or four rows, which fill the registers.
template <int kRows, int kFetched>
void tile_rows(const Gemm& g, int64_t row, int64_t column, const bf16* b) {
  TileSums<kRows> sums;
  sums.clear();
  const bf16* a = g.a + row * g.lda;
  for (int64_t i = 0; i < g.k / kKBlock; ++i, a += kKBlock, b += 2 * kTileSize)
    sums.template add<kFetched>(a, g.lda, b, ahead_of(b));
  sums.write(g, row, column);
}

/// The first tile's turn brings the second as well.
template <int kRows>
void more_rows(const Gemm& g, int64_t row, int64_t panel) {
  const int64_t column = panel * kPanel;
  const bf16* b = g.b + panel * (g.k / kKBlock) * 2 * kTileSize;
  tile_rows<kRows, 2>(g, row, column, b);
  if (column + kTileOutputs < g.n)
    tile_rows<kRows, 0>(g, row, column + kTileOutputs, b + kTileSize);
}

}  // namespace

void gemm_block_avx2(const Gemm& g, const GemmBlock& block) {
  for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    int64_t row = block.row_begin;
    for (; row + 4 <= block.row_end; row += 4) more_rows<4>(g, row, panel);
    switch (block.row_end - row) {
      case 1:
        few_rows<1>(g, row, panel);
        break;
      case 2:
        few_rows<2>(g, row, panel);
        break;
      case 3:
        more_rows<3>(g, row, panel);
        break;
      default:
        break;
    }
  }
}

}  // namespace aerie::cpu
