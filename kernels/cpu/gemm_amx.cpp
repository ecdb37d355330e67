// AMX: 16x16 f32 tiles of C, two by two, so that each tile of A and B that is loaded is used twice.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/tiles_amx.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTile = 16;                                        // rows or outputs of a tile
constexpr int64_t kBlockBytes = 2 * kTile * kKBlock * sizeof(bf16);  // of a panel, for 32 of k
constexpr int64_t kPrefetch = 4096;  // bytes that the weight stream is fetched ahead

// Tile registers: C in 0..3 (row block, then output block), A in 4 and 5, B in 6 and 7. The
// intrinsics below take literal digits only.
constexpr int kC00 = 0, kC01 = 1, kC10 = 2, kC11 = 3, kA0 = 4, kA1 = 5, kB0 = 6, kB1 = 7;

TileConfig config_for(int64_t rows) {
  TileConfig config;
  const int64_t low = std::min(rows, kTile), high = std::max<int64_t>(rows - kTile, 0);
  for (int tile : {kC00, kC01, kA0}) config.set(tile, low);
  if (high > 0) {
    for (int tile : {kC10, kC11, kA1}) config.set(tile, high);
  }
  for (int tile : {kB0, kB1}) config.set(tile, kTile);
  return config;
}

/// What is fetched while a panel is summed: each block of k asks for a little of what comes next.
struct Ahead {
  const char* b = nullptr;  ///< the weight stream
  int64_t b_lines = 0;      ///< cache lines of it for each block of k
  const char* a = nullptr;  ///< the next rows of A, or null
};

/// Sums all of k for one or two tiles of rows and a whole panel; the sums stay in the C registers.
/// Strides in bytes. A function of its own: inlined, its pointers would not stay in registers.
template <bool kTwo>
[[gnu::noinline]] void sum_panel(const char* a, int64_t stride, const char* b, int64_t blocks,
                                 Ahead ahead) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kTwo) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const char* a1 = a + kTile * stride;
  for (const char* end = b + blocks * kBlockBytes; b != end; b += kBlockBytes) {
    // Loads first: next to a busy sibling thread, loads and products overlap badly when they
    // alternate (5 to 10 % slower).
    _tile_loadd(4, a, stride);
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + kBlockBytes / 2, 64);
    if constexpr (kTwo) _tile_loadd(5, a1, stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTwo) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    a += 2 * kKBlock;
    a1 += 2 * kKBlock;
    for (const char* last = ahead.b + 64 * ahead.b_lines; ahead.b != last; ahead.b += 64) {
      _mm_prefetch(ahead.b, _MM_HINT_T0);
    }
    if (ahead.a == nullptr) continue;
    for (int64_t row = 0; row < 2 * kTile; ++row) _mm_prefetch(ahead.a + row * stride, _MM_HINT_T0);
    ahead.a += 2 * kKBlock;
  }
}

/// Writes `rows` x `columns` (at most kPanel) sums to C.
void write_out(const Gemm& g, const float* sums, int64_t row, int64_t column, int64_t rows,
               int64_t columns) {
  const uint32_t mask = columns >= 32 ? ~0u : (1u << columns) - 1;
  const __mmask16 low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
  for (int64_t i = 0; i < rows; ++i, sums += kPanel) {
    __m512 first = _mm512_load_ps(sums), second = _mm512_load_ps(sums + 16);
    const int64_t at = (row + i) * g.ldc + column;
    if (g.c_bf16 != nullptr) {
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
      _mm512_mask_storeu_epi16(g.c_bf16 + at, mask, both);
      continue;
    }
    if (g.accumulate) {
      first = _mm512_add_ps(first, _mm512_maskz_loadu_ps(low, g.c_f32 + at));
      second = _mm512_add_ps(second, _mm512_maskz_loadu_ps(high, g.c_f32 + at + 16));
    }
    _mm512_mask_storeu_ps(g.c_f32 + at, low, first);
    _mm512_mask_storeu_ps(g.c_f32 + at + 16, high, second);
  }
}

void store_sums(float* sums, int64_t rows) {
  constexpr int64_t kStride = kPanel * sizeof(float);
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + kTile, kStride);
  if (rows > kTile) {
    _tile_stored(2, sums + kTile * kPanel, kStride);
    _tile_stored(3, sums + kTile * kPanel + kTile, kStride);
  }
}

void fetch_output(const Gemm& g, int64_t row, int64_t column, int64_t rows) {
  const char* c = g.c_bf16 != nullptr
                      ? reinterpret_cast<const char*>(g.c_bf16 + row * g.ldc + column)
                      : reinterpret_cast<const char*>(g.c_f32 + row * g.ldc + column);
  const int64_t stride = g.ldc * (g.c_bf16 != nullptr ? 2 : 4);
  for (int64_t i = 0; i < rows; ++i) {
    _mm_prefetch(c + i * stride, _MM_HINT_ET0);
    if (g.c_f32 != nullptr) _mm_prefetch(c + i * stride + 64, _MM_HINT_ET0);
  }
}

class BlockKernel {
 public:
  BlockKernel(const Gemm& problem, const GemmBlock& part)
      : g(problem),
        block(part),
        blocks(g.k / kKBlock),
        row_count(block.row_end - block.row_begin),
        steps((row_count + 2 * kTile - 1) / (2 * kTile)),
        panels_at_once(steps < 8 ? 1 : 8),
        tail(row_count % (2 * kTile)),
        full_config(config_for(2 * kTile)),
        tail_config(config_for(tail)) {}

  void run() {
    (row_count < 2 * kTile ? tail_config : full_config).load();
    for (int64_t panel = block.panel_begin; panel < block.panel_end; panel += panels_at_once) {
      const int64_t end = std::min(panel + panels_at_once, block.panel_end);
      for (int64_t step = 0; step < steps; ++step) row_step(panel, end, step);
    }
    _tile_release();
  }

 private:
  void row_step(int64_t first, int64_t end, int64_t step) {
    const int64_t row = block.row_begin + step * 2 * kTile,
                  rows = std::min(2 * kTile, block.row_end - row);
    const bool last = tail != 0 && step + 1 == steps && steps > 1;
    if (last) tail_config.load();
    for (int64_t panel = first; panel < end; ++panel) {
      Ahead ahead = weights_ahead(panel, step);
      if (panel == first && step + 1 < steps)
        ahead.a = reinterpret_cast<const char*>(g.a + (row + 2 * kTile) * g.lda);
      tile_rows(panel, row, rows, ahead);
    }
    if (last) full_config.load();
  }

  /// A single step of rows follows its own stream closely; several steps share the fetching of the
  /// panels after these among them.
  Ahead weights_ahead(int64_t panel, int64_t step) const {
    const int64_t panel_bytes = blocks * kBlockBytes, all = (g.n + kPanel - 1) / kPanel;
    const char* b = reinterpret_cast<const char*>(g.b);
    if (steps == 1) return {b + panel * panel_bytes + kPrefetch, kBlockBytes / 64};
    const int64_t next = panel + panels_at_once, lines = (kBlockBytes / 64 + steps - 1) / steps;
    if (next >= all) return {};
    return {b + next * panel_bytes + step * lines * 64 * blocks, lines};
  }

  void tile_rows(int64_t panel, int64_t row, int64_t rows, Ahead ahead) {
    const auto* a = reinterpret_cast<const char*>(g.a + row * g.lda);
    const auto* b = reinterpret_cast<const char*>(g.b) + panel * blocks * kBlockBytes;
    const int64_t stride = g.lda * static_cast<int64_t>(sizeof(bf16));
    const int64_t column = panel * kPanel;
    fetch_output(g, row, column, rows);
    if (rows <= kTile) {
      sum_panel<false>(a, stride, b, blocks, ahead);
    } else {
      sum_panel<true>(a, stride, b, blocks, ahead);
    }
    store_sums(sums, rows);
    write_out(g, sums, row, column, rows, std::min(kPanel, g.n - column));
  }

  alignas(64) float sums[2 * kTile * kPanel];
  const Gemm& g;
  const GemmBlock& block;
  const int64_t blocks, row_count, steps, panels_at_once, tail;
  const TileConfig full_config, tail_config;
};

}  // namespace

void gemm_block_amx(const Gemm& problem, const GemmBlock& block) {
  BlockKernel(problem, block).run();
}

}  // namespace aerie::cpu
