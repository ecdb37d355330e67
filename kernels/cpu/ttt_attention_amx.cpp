// Training-time-test attention where there are AMX tiles.
#include "kernels/cpu/tiles_amx.h"
#include "kernels/cpu/ttt_backward_avx512.h"
#include "kernels/cpu/ttt_forward_avx512.h"

namespace aerie::cpu {
namespace {

/// Holds all eight tile registers, 16 rows by 64 bytes, for its lifetime.
class TileProducts {
 public:
  TileProducts() {
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile) config.set(tile, 16);
    config.load();
  }
  ~TileProducts() { _tile_release(); }
  TileProducts(const TileProducts&) = delete;
  TileProducts& operator=(const TileProducts&) = delete;

  void multiply_turned(float* products, int64_t stride, const bf16* a, const bf16* turned,
                       int64_t blocks, int64_t d) const {
    finish_stores();
    const int64_t group = d * 16;
    for (int64_t block = 0; block < blocks; block += 2) {
      const bf16* b = turned + block * group;
      _tile_zero(0);
      _tile_zero(1);
      for (int64_t i = 0; i < d / 32; ++i) {
        _tile_loadd(2, a + i * 32, d * sizeof(bf16));
        _tile_loadd(3, b + i * kTileElements, 64);
        _tile_dpbf16ps(0, 2, 3);
        _tile_loadd(4, b + group + i * kTileElements, 64);
        _tile_dpbf16ps(1, 2, 4);
      }
      _tile_stored(0, products + block * 16, stride * sizeof(float));
      _tile_stored(1, products + block * 16 + 16, stride * sizeof(float));
    }
  }

  void multiply_paired(float* sums, const bf16* p, int64_t stride, const bf16* paired,
                       int64_t chunks, int64_t d, bool add) const {
    finish_stores();
    for (int64_t column = 0; column < d; column += 32) {
      if (add) {
        _tile_loadd(0, sums + column, d * sizeof(float));
        _tile_loadd(1, sums + column + 16, d * sizeof(float));
      } else {
        _tile_zero(0);
        _tile_zero(1);
      }
      const bf16* b = paired + column / 16 * kTileElements;
      for (int64_t chunk = 0; chunk < chunks; ++chunk, b += d * 32) {
        _tile_loadd(2, p + chunk * 32, stride * sizeof(bf16));
        _tile_loadd(3, b, 64);
        _tile_dpbf16ps(0, 2, 3);
        _tile_loadd(4, b + kTileElements, 64);
        _tile_dpbf16ps(1, 2, 4);
      }
      _tile_stored(0, sums + column, d * sizeof(float));
      _tile_stored(1, sums + column + 16, d * sizeof(float));
    }
  }
};

}  // namespace

const AttentionKernels kAttentionAmx = {pack_keys, pack_queries, attention_forward<TileProducts>,
                                        attention_backward_queries<TileProducts>,
                                        attention_backward_keys<TileProducts>};

}  // namespace aerie::cpu
