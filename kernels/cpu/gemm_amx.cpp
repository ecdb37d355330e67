// AMX: 16x16 f32 tiles of C, two by two, so that each tile of A and B that is loaded is used twice.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/gemm_kernels.h"
#include "kernels/cpu/gemm_write_avx512.h"
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

/// What of the weight stream is fetched while a panel is summed: each block of k asks for a little
/// of what comes next.
struct Ahead {
  const char* b = nullptr;
  int64_t b_lines = 0;  ///< cache lines for each block of k
};

/// Finished sums on their way to C. They are written a few rows at a time while the next panel is
/// summed: tiles and vectors then work side by side, and nothing waits for the tiles to be stored.
class Output {
 public:
  explicit Output(const Gemm& problem) : g_(problem) {}

  /// Where store_sums puts the sums of the next `rows` by a panel.
  float* begin(int64_t row, int64_t column, int64_t rows) {
    mask_ = column_mask(g_, column);
    at_ = row * g_.ldc + column;
    next_ = sums_;
    end_ = sums_ + rows * kPanel;
    return sums_;
  }

  void write(int64_t rows) {
    for (; rows > 0 && next_ != end_; --rows, next_ += kPanel, at_ += g_.ldc)
      write_row(g_, at_, mask_, _mm512_load_ps(next_), _mm512_load_ps(next_ + 16));
  }

 private:
  alignas(64) float sums_[2 * kTile * kPanel];
  const Gemm& g_;
  const float *next_ = sums_, *end_ = sums_;
  int64_t at_ = 0;
  uint32_t mask_ = 0;
};

/// Sums all of k for one or two tiles of rows and a whole panel; the sums stay in the C registers.
/// Strides in bytes. Each block of k writes `rows` rows of the output before. A function of its
/// own: inlined, its pointers would not stay in registers.
template <bool kTwo>
[[gnu::noinline]] void sum_panel(const char* a, int64_t stride, const char* b, int64_t blocks,
                                 Ahead ahead, Output& before, int64_t rows) {
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
    before.write(rows);
    for (const char* last = ahead.b + 64 * ahead.b_lines; ahead.b != last; ahead.b += 64) {
      _mm_prefetch(ahead.b, _MM_HINT_T0);
    }
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
      : output(problem),
        g(problem),
        block(part),
        blocks(g.k / kKBlock),
        row_count(block.row_end - block.row_begin),
        steps((row_count + 2 * kTile - 1) / (2 * kTile)),
        panels_at_once(steps < 8 ? 1 : 4),
        tail(row_count % (2 * kTile)),
        full_config(config_for(2 * kTile)),
        tail_config(config_for(tail)) {}

  void run() {
    (row_count < 2 * kTile ? tail_config : full_config).load();
    for (int64_t panel = block.panel_begin; panel < block.panel_end; panel += panels_at_once) {
      const int64_t end = std::min(panel + panels_at_once, block.panel_end);
      for (int64_t step = 0; step < steps; ++step) row_step(panel, end, step);
    }
    output.write(2 * kTile);
    _tile_release();
  }

 private:
  void row_step(int64_t first, int64_t end, int64_t step) {
    const int64_t row = block.row_begin + step * 2 * kTile,
                  rows = std::min(2 * kTile, block.row_end - row);
    const bool last = tail != 0 && step + 1 == steps && steps > 1;
    if (last) tail_config.load();
    for (int64_t panel = first; panel < end; ++panel) {
      tile_rows(panel, row, rows, weights_ahead(panel, step));
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
    const int64_t rows_a_block = (2 * kTile + blocks - 1) / blocks;  // all within one panel
    if (rows <= kTile) {
      sum_panel<false>(a, stride, b, blocks, ahead, output, rows_a_block);
    } else {
      sum_panel<true>(a, stride, b, blocks, ahead, output, rows_a_block);
    }
    store_sums(output.begin(row, column, rows), rows);
  }

  Output output;
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
