// The AMX tile configuration (Intel SDM volume 1, 18.3). Only sources that are compiled for AMX
// include this.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace aerie::cpu {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {};
  uint8_t rows[16] = {};

  /// All our tiles have rows of 64 bytes.
  void set(int tile, int64_t row_count) {
    bytes_per_row[tile] = 64;
    rows[tile] = static_cast<uint8_t>(row_count);
  }
  void load() const { _tile_loadconfig(this); }
};
static_assert(sizeof(TileConfig) == 64);

/// Before tiles are loaded from what was just stored: the compiler does not know that a tile load
/// reads memory.
__attribute__((always_inline)) inline void finish_stores() { __asm__ volatile("" ::: "memory"); }

}  // namespace aerie::cpu
