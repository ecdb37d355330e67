// AVX-512 BF16: eight rows by a panel of 32 outputs in registers.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/gemm_kernels.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileSize = 16 * kKBlock;

__m512bh load(const bf16* at) { return (__m512bh)_mm512_load_si512(at); }

__m512bh broadcast_pair(const bf16* at) {
  int32_t pair;
  std::memcpy(&pair, at, sizeof pair);
  return (__m512bh)_mm512_set1_epi32(pair);
}

void write_row(const Gemm& g, int64_t at, uint32_t mask, __m512 first, __m512 second) {
  const __mmask16 low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
  if (g.c_bf16 != nullptr) {
    _mm512_mask_storeu_epi16(g.c_bf16 + at, mask, (__m512i)_mm512_cvtne2ps_pbh(second, first));
    return;
  }
  if (g.accumulate) {
    first = _mm512_add_ps(first, _mm512_maskz_loadu_ps(low, g.c_f32 + at));
    second = _mm512_add_ps(second, _mm512_maskz_loadu_ps(high, g.c_f32 + at + 16));
  }
  _mm512_mask_storeu_ps(g.c_f32 + at, low, first);
  _mm512_mask_storeu_ps(g.c_f32 + at + 16, high, second);
}

template <int kRows>
void rows_by_panel(const Gemm& g, int64_t row, int64_t panel) {
  const int64_t blocks = g.k / kKBlock;
  const bf16* a = g.a + row * g.lda;
  const bf16* b = g.b + panel * blocks * 2 * kTileSize;
  __m512 first[kRows], second[kRows];
  for (int r = 0; r < kRows; ++r) first[r] = second[r] = _mm512_setzero_ps();
  for (int64_t i = 0; i < blocks; ++i, a += kKBlock, b += 2 * kTileSize) {
    for (int64_t pair = 0; pair < kKBlock / 2; ++pair) {
      const bf16* at = b + pair * 32;
      _mm_prefetch(reinterpret_cast<const char*>(at) + 4096, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(at + kTileSize) + 4096, _MM_HINT_T0);
      const __m512bh b0 = load(at), b1 = load(at + kTileSize);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const __m512bh x = broadcast_pair(a + r * g.lda + pair * 2);
        first[r] = _mm512_dpbf16_ps(first[r], x, b0);
        second[r] = _mm512_dpbf16_ps(second[r], x, b1);
      }
    }
  }
  const int64_t column = panel * kPanel, columns = std::min(kPanel, g.n - column);
  const uint32_t mask = columns >= 32 ? ~0u : (1u << columns) - 1;
  for (int r = 0; r < kRows; ++r)
    write_row(g, (row + r) * g.ldc + column, mask, first[r], second[r]);
}

void rows_by_panel(const Gemm& g, int64_t row, int64_t panel, int64_t rows) {
  switch (rows) {
    case 1:
      return rows_by_panel<1>(g, row, panel);
    case 2:
      return rows_by_panel<2>(g, row, panel);
    case 3:
      return rows_by_panel<3>(g, row, panel);
    case 4:
      return rows_by_panel<4>(g, row, panel);
    case 5:
      return rows_by_panel<5>(g, row, panel);
    case 6:
      return rows_by_panel<6>(g, row, panel);
    case 7:
      return rows_by_panel<7>(g, row, panel);
    default:
      return rows_by_panel<8>(g, row, panel);
  }
}

}  // namespace

void gemm_block_avx512(const Gemm& g, const GemmBlock& block) {
  for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    for (int64_t row = block.row_begin; row < block.row_end; row += 8) {
      rows_by_panel(g, row, panel, std::min<int64_t>(block.row_end - row, 8));
    }
  }
}

}  // namespace aerie::cpu
