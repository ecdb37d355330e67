// The tiles of training-time-test attention: which queries and keys they hold, and the packing of
// the products' operands. Only sources compiled for AVX-512 or AMX include this. Of an instruction
// set the kernels want
//   multiply_turned: products [16, 16*blocks] = a [16,d] times turned tiles of `blocks` (even)
//                    groups of 16; rows `stride` floats apart
//   multiply_paired: sums [16,d] = p [16, 32*chunks] times paired tiles, or with `add` the sums
//                    and that; rows of p `stride` elements apart
#pragma once
#include <algorithm>
#include <cstring>

#include "kernels/cpu/ttt_attention.h"
#include "kernels/cpu/vector_avx512.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileElements = 16 * 32;

/// Scores of 16 rows against `chunks` x 32 others, in f32 and as bf16 weights. Neither has a power
/// of two between its rows: they lie in different cache sets.
struct ScoreShape {
  int64_t chunks, width = chunks * 32, strip = width + 16, weight_stride = width + 32;
};

/// Up to 16 queries of a document, and the base keys that any of them sees: from `oldest` of the
/// document on, a multiple of 32.
struct QueryTile {
  int64_t begin, count, oldest;
  ScoreShape scores;
};

/// Columns [first, last) of a tile's scores that one query sees.
struct SeenKeys {
  int64_t first, last;
};

inline QueryTile query_tile(const AttentionView& in, const AttentionDocument& document,
                            int64_t tile) {
  const int64_t begin = document.begin + tile,
                count = std::min(kAttentionTile, document.queries - tile);
  const int64_t left = in.row[begin] - document.first + 1 - in.window;  // of the first query
  const int64_t oldest = std::max<int64_t>(0, left) / 32 * 32;
  return {begin, count, oldest, {(in.row[begin + count - 1] - document.first - oldest + 32) / 32}};
}

/// Of query i of a tile.
inline SeenKeys seen_keys(const AttentionView& in, const AttentionDocument& document,
                          const QueryTile& tile, int64_t i) {
  const int64_t last = in.row[tile.begin + i] - document.first + 1;
  return {std::max<int64_t>(0, last - in.window - tile.oldest), last - tile.oldest};
}

/// Lanes of the 16 columns from `i` on that a query sees.
inline __mmask16 seen_lanes(const SeenKeys& keys, int64_t i) {
  return static_cast<__mmask16>(lanes(keys.last - i) &
                                ~lanes(std::max<int64_t>(0, keys.first - i)));
}

/// Zeros in the columns of a row that seen_lanes says nothing of.
inline void clear_unseen(bf16* row, const SeenKeys& keys, int64_t width) {
  for (int64_t i = 0; i < keys.first / 16 * 16; i += 16) narrow(row + i, _mm512_setzero_ps());
  for (int64_t i = (keys.last + 15) / 16 * 16; i < width; i += 16)
    narrow(row + i, _mm512_setzero_ps());
}

/// 16 rows (those from `count` on are zero) of d elements -> d/32 tiles [16 pairs of d][16
/// rows][2].
inline void pack_turned(bf16* tiles, const bf16* source, int64_t stride, int64_t count, int64_t d) {
  for (int64_t block = 0; block < d; block += 32, tiles += kTileElements) {
    __m512i rows[16];
    for (int64_t i = 0; i < 16; ++i) {
      rows[i] =
          i < count ? _mm512_loadu_si512(source + i * stride + block) : _mm512_setzero_si512();
    }
    transpose16(rows);
    for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(tiles + i * 32, rows[i]);
  }
}

/// The same for the two halves of a chunk of 32 rows.
inline void pack_turned_chunk(bf16* tiles, const bf16* source, int64_t stride, int64_t count,
                              int64_t d) {
  pack_turned(tiles, source, stride, std::min<int64_t>(count, 16), d);
  pack_turned(tiles + 16 * d, source + 16 * stride, stride, count - 16, d);
}

/// 32 rows (those from `count` on are zero) of d elements -> d/16 tiles [16 pairs of rows][16 of
/// d][2].
inline void pack_paired(bf16* tiles, const bf16* source, int64_t stride, int64_t count, int64_t d) {
  const auto row = [&](int64_t i, int64_t column) {
    return i < count ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(
                           reinterpret_cast<const __m256i*>(source + i * stride + column)))
                     : _mm512_setzero_si512();
  };
  for (int64_t column = 0; column < d; column += 16, tiles += kTileElements) {
    for (int64_t pair = 0; pair < 16; ++pair) {
      const __m512i high = _mm512_slli_epi32(row(2 * pair + 1, column), 16);
      _mm512_storeu_si512(tiles + pair * 32, _mm512_or_si512(row(2 * pair, column), high));
    }
  }
}

/// 16 rows (those from `count` on are zero) to a dense [16,d].
inline void copy_tile(bf16* tile, const bf16* source, int64_t stride, int64_t count, int64_t d) {
  for (int64_t i = 0; i < 16; ++i) {
    if (i < count) {
      std::memcpy(tile + i * d, source + i * stride, static_cast<size_t>(d) * sizeof(bf16));
    } else {
      std::memset(tile + i * d, 0, static_cast<size_t>(d) * sizeof(bf16));
    }
  }
}

}  // namespace
}  // namespace aerie::cpu
