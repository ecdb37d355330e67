// Weights into tiles, and matrices transposed. Whole blocks go through AVX-512 where the machine
// has it; these loops define the form and do the rest.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "common/threads.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/pack_avx512.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileOutputs = 16, kPairs = kKBlock / 2, kTileSize = kTileOutputs * kKBlock;

bf16 to_bf16(bf16 value) { return value; }
bf16 to_bf16(float value) { return narrow<bf16>(value); }

/// A block of the source as [kTileOutputs outputs][kKBlock k], zero outside.
template <typename T>
void load_outputs(bf16 (*block)[kKBlock], const T* source, int64_t ld, int64_t outputs,
                  int64_t ks) {
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t k = 0; k < ks; ++k) block[o][k] = to_bf16(source[o * ld + k]);
  }
}

template <typename T>
void pack_tile_nk(bf16* tile, const T* source, int64_t ld, int64_t outputs, int64_t ks) {
  alignas(64) bf16 block[kTileOutputs][kKBlock];
  if (outputs < kTileOutputs || ks < kKBlock) std::memset(block, 0, sizeof block);
  if (outputs == kTileOutputs && ks == kKBlock) {
    load_outputs(block, source, ld, kTileOutputs, kKBlock);
  } else {
    load_outputs(block, source, ld, outputs, ks);
  }
  uint32_t pairs[kTileOutputs][kPairs], turned[kPairs][kTileOutputs];
  std::memcpy(pairs, block, sizeof pairs);
  for (int64_t p = 0; p < kPairs; ++p) {
    for (int64_t o = 0; o < kTileOutputs; ++o) turned[p][o] = pairs[o][p];
  }
  std::memcpy(tile, turned, sizeof turned);
}

template <typename T>
void pack_tile_kn(bf16* tile, const T* source, int64_t ld, int64_t outputs, int64_t ks) {
  if (outputs < kTileOutputs || ks < kKBlock) std::memset(tile, 0, kTileSize * sizeof(bf16));
  for (int64_t k = 0; k < ks; ++k) {
    bf16* row = tile + k / 2 * 2 * kTileOutputs + k % 2;
    const T* from = source + k * ld;
    for (int64_t o = 0; o < outputs; ++o) row[2 * o] = to_bf16(from[o]);
  }
}

/// One tile of pack(): all of it inside the source, or cut off at an edge.
template <typename T>
void pack_tile(bf16* tile, const T* source, int64_t ld, int64_t outputs, int64_t ks, Source order) {
  const bool whole = outputs == kTileOutputs && ks == kKBlock && best_isa() >= Isa::kAvx512;
  if (order == Source::kNK) {
    whole ? pack_tile_nk_avx512(tile, source, ld) : pack_tile_nk(tile, source, ld, outputs, ks);
  } else {
    whole ? pack_tile_kn_avx512(tile, source, ld) : pack_tile_kn(tile, source, ld, outputs, ks);
  }
}

template <typename T>
void pack(bf16* packed, const T* source, int64_t ld, int64_t n, int64_t k, Source order) {
  const int64_t panels = (n + kPanel - 1) / kPanel, blocks = (k + kKBlock - 1) / kKBlock;
  parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t block = 0; block < blocks; ++block) {
        for (int64_t half = 0; half < 2; ++half) {
          bf16* tile = packed + ((panel * blocks + block) * 2 + half) * kTileSize;
          const int64_t output = panel * kPanel + half * kTileOutputs, first = block * kKBlock;
          const int64_t outputs = std::clamp<int64_t>(n - output, 0, kTileOutputs),
                        ks = std::min(kKBlock, k - first);
          if (outputs == 0) {
            std::memset(tile, 0, kTileSize * sizeof(bf16));
          } else {
            const int64_t at = order == Source::kNK ? output * ld + first : first * ld + output;
            pack_tile(tile, source + at, ld, outputs, ks, order);
          }
        }
      }
    }
  });
}

template <typename T>
void turn(bf16* out, int64_t out_ld, const T* source, int64_t ld, int64_t rows, int64_t columns) {
  constexpr int64_t kBlock = 32;
  const bool fast = best_isa() >= Isa::kAvx512;
  parallel_for(0, (columns + kBlock - 1) / kBlock, 1, [&](int64_t begin, int64_t end) {
    alignas(64) bf16 block[kBlock][kBlock];
    for (int64_t c = begin * kBlock; c < std::min(end * kBlock, columns); c += kBlock) {
      const int64_t width = std::min(kBlock, columns - c);
      for (int64_t r = 0; r < rows; r += kBlock) {
        const int64_t height = std::min(kBlock, rows - r);
        if constexpr (std::is_same_v<T, bf16>) {
          if (fast && width == kBlock && height == kBlock) {
            turn_block_avx512(out + c * out_ld + r, out_ld, source + r * ld + c, ld);
            continue;
          }
        }
        for (int64_t i = 0; i < height; ++i) {
          for (int64_t j = 0; j < width; ++j) block[j][i] = to_bf16(source[(r + i) * ld + c + j]);
        }
        for (int64_t j = 0; j < width; ++j)
          std::memcpy(out + (c + j) * out_ld + r, block[j], height * sizeof(bf16));
      }
    }
  });
}

}  // namespace

void pack_b(bf16* packed, const bf16* source, int64_t ld, int64_t n, int64_t k, Source order) {
  pack(packed, source, ld, n, k, order);
}

void pack_b(bf16* packed, const float* source, int64_t ld, int64_t n, int64_t k, Source order) {
  pack(packed, source, ld, n, k, order);
}

void unpack_b(bf16* out, const bf16* packed, int64_t n, int64_t k) {
  const int64_t blocks = (k + kKBlock - 1) / kKBlock;
  parallel_for(0, n, kPanel, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const bf16* column = packed +
                           (o / kPanel * blocks * 2 + o % kPanel / kTileOutputs) * kTileSize +
                           o % kTileOutputs * 2;
      for (int64_t i = 0; i < k; ++i) {
        out[o * k + i] =
            column[i / kKBlock * 2 * kTileSize + i % kKBlock / 2 * 2 * kTileOutputs + i % 2];
      }
    }
  });
}

void transpose(bf16* out, int64_t out_ld, const bf16* source, int64_t ld, int64_t rows,
               int64_t columns) {
  turn(out, out_ld, source, ld, rows, columns);
}

void transpose(bf16* out, int64_t out_ld, const float* source, int64_t ld, int64_t rows,
               int64_t columns) {
  turn(out, out_ld, source, ld, rows, columns);
}

}  // namespace aerie::cpu
