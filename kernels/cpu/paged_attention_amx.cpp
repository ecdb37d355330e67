#include <immintrin.h>

#include "kernels/cpu/paged_attention_loops.h"
#include "kernels/cpu/softmax_avx512.h"
#include "kernels/cpu/tiles_amx.h"

namespace aerie::cpu {
namespace {

/// The two products in tiles: sums in registers 0 to 3, the left operand in 4, the right ones in 5
/// to 7. Always 16 rows; those beyond `rows` hold leftovers that nobody reads.
struct TileProducts {
  static void begin() {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) config.set(tile, 16);
    config.load();
  }
  static void end() { _tile_release(); }

  static void scores(float* s, const bf16* q, const bf16* const* keys, int64_t count, int64_t,
                     int64_t padded) {
    finish_stores();
    int64_t page = 0;
    for (; page + 4 <= count; page += 4) four_pages(s + page * kPageTokens, q, keys + page, padded);
    for (; page < count; ++page) one_page(s + page * kPageTokens, q, keys[page], padded);
  }

  static void values(float* o, const bf16* p, const bf16* v, int64_t groups, int64_t,
                     int64_t padded) {
    finish_stores();
    int64_t column = 0;
    for (; column + 64 <= padded; column += 64)
      four_columns(o + column, p, v + column * 32, groups, padded);
    for (; column < padded; column += 16)
      one_column(o + column, p, v + column * 32, groups, padded);
  }

 private:
  static constexpr int64_t kTileElements = 512;

  /// 64 columns of o: four sums under way hide each other's latency.
  static void four_columns(float* o, const bf16* p, const bf16* v, int64_t groups, int64_t padded) {
    const int64_t stride = padded * sizeof(float);
    _tile_loadd(0, o, stride);
    _tile_loadd(1, o + 16, stride);
    _tile_loadd(2, o + 32, stride);
    _tile_loadd(3, o + 48, stride);
    for (int64_t group = 0; group < groups; ++group) {
      const bf16* tile = v + group * padded * 32;
      _tile_loadd(4, p + group * 32, kBlockTokens * sizeof(bf16));
      _tile_loadd(5, tile, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, tile + kTileElements, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, tile + 2 * kTileElements, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, tile + 3 * kTileElements, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, o, stride);
    _tile_stored(1, o + 16, stride);
    _tile_stored(2, o + 32, stride);
    _tile_stored(3, o + 48, stride);
  }

  static void one_column(float* o, const bf16* p, const bf16* v, int64_t groups, int64_t padded) {
    _tile_loadd(0, o, padded * sizeof(float));
    for (int64_t group = 0; group < groups; ++group) {
      _tile_loadd(4, p + group * 32, kBlockTokens * sizeof(bf16));
      _tile_loadd(5, v + group * padded * 32, 64);
      _tile_dpbf16ps(0, 4, 5);
    }
    _tile_stored(0, o, padded * sizeof(float));
  }

  static void four_pages(float* s, const bf16* q, const bf16* const* keys, int64_t padded) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t c = 0; c < padded; c += 32) {
      _tile_loadd(4, q + c, padded * sizeof(bf16));
      _tile_loadd(5, keys[0] + c * 16, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(6, keys[1] + c * 16, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, keys[2] + c * 16, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, keys[3] + c * 16, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
    constexpr int64_t kStride = kBlockTokens * sizeof(float);
    _tile_stored(0, s, kStride);
    _tile_stored(1, s + kPageTokens, kStride);
    _tile_stored(2, s + 2 * kPageTokens, kStride);
    _tile_stored(3, s + 3 * kPageTokens, kStride);
  }

  static void one_page(float* s, const bf16* q, const bf16* keys, int64_t padded) {
    _tile_zero(0);
    for (int64_t c = 0; c < padded; c += 32) {
      _tile_loadd(4, q + c, padded * sizeof(bf16));
      _tile_loadd(5, keys + c * 16, 64);
      _tile_dpbf16ps(0, 4, 5);
    }
    _tile_stored(0, s, kBlockTokens * sizeof(float));
  }
};

}  // namespace

void attend_amx(const PagedChunk& chunk, const AttentionPart& part) {
  AttentionTask<TileProducts, VectorSoftmax>(chunk, part).run();
}

}  // namespace aerie::cpu
