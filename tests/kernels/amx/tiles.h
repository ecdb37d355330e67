// AMX tiles in software (Intel SDM volume 2, TDPBF16PS and its neighbours). Included before
// anything else of a source, so that its intrinsics mean these.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {
namespace amx {

struct Tile {
  float row[16][16];  // 64 bytes each, whatever they hold
};

struct State {
  Tile tile[8];
  uint16_t bytes[8];
  uint8_t rows[8];
};
thread_local State state;

/// The 64 bytes of a tile configuration: bytes a row from 16 on, rows from 48 on.
[[maybe_unused]] void configure(const void* config) {
  const char* at = static_cast<const char*>(config);
  std::memcpy(state.bytes, at + 16, sizeof state.bytes);
  std::memcpy(state.rows, at + 48, sizeof state.rows);
  std::memset(state.tile, 0, sizeof state.tile);
}

/// No tile has a row any more.
[[maybe_unused]] void release() { std::memset(&state, 0, sizeof state); }

[[maybe_unused]] void clear(int tile) { std::memset(&state.tile[tile], 0, sizeof(Tile)); }

[[maybe_unused]] void load(int tile, const void* from, int64_t stride) {
  clear(tile);
  for (int r = 0; r < state.rows[tile]; ++r)
    std::memcpy(state.tile[tile].row[r], static_cast<const char*>(from) + r * stride,
                state.bytes[tile]);
}

[[maybe_unused]] void store(int tile, void* to, int64_t stride) {
  for (int r = 0; r < state.rows[tile]; ++r)
    std::memcpy(static_cast<char*>(to) + r * stride, state.tile[tile].row[r], state.bytes[tile]);
}

inline float widen(uint32_t bits) { return __builtin_bit_cast(float, bits); }

/// c += a times b, pairs of k after one another.
[[maybe_unused]] void multiply(int c, int a, int b) {
  for (int m = 0; m < state.rows[c]; ++m) {
    for (int pair = 0; pair < state.bytes[a] / 4; ++pair) {
      const auto both = __builtin_bit_cast(uint32_t, state.tile[a].row[m][pair]);
      const float even = widen(both << 16), odd = widen(both & 0xffff0000u);
      for (int n = 0; n < state.bytes[c] / 4; ++n) {
        const auto weight = __builtin_bit_cast(uint32_t, state.tile[b].row[pair][n]);
        state.tile[c].row[m][n] += even * widen(weight << 16) + odd * widen(weight & 0xffff0000u);
      }
    }
  }
}

}  // namespace amx
}  // namespace

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) amx::configure(config)
#define _tile_release() amx::release()
#define _tile_loadd(tile, from, stride) amx::load(tile, from, stride)
#define _tile_stored(tile, to, stride) amx::store(tile, to, stride)
#define _tile_zero(tile) amx::clear(tile)
#define _tile_dpbf16ps(c, a, b) amx::multiply(c, a, b)
