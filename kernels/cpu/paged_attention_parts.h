// What a task of attention over pages is made of: the two products and the softmax as plain loops,
// which an instruction set may replace by its own, and the memory to work in. Everything has
// internal linkage.
#pragma once
#include <cstring>

#include "kernels/cpu/math_loops.h"
#include "kernels/cpu/paged_attention.h"
#include "kernels/cpu/scratch.h"

namespace aerie::cpu {
namespace {

constexpr int64_t kTileRows = 16, kPagesOfBlock = kBlockTokens / kPageTokens;
constexpr float kLowest = -1e30f, kMasked = -__builtin_inff();

/// The products as plain loops. Each row is computed by itself.
struct LoopProducts {
  static void begin() {}
  static void end() {}

  /// s [rows][kBlockTokens] = q [rows][padded] times the keys of `count` pages
  static void scores(float* s, const bf16* q, const bf16* const* keys, int64_t count, int64_t rows,
                     int64_t padded) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t page = 0; page < count; ++page) {
        float sum[kPageTokens] = {};
        for (int64_t pair = 0; pair < padded / 2; ++pair) {
          add_pair(sum, q + r * padded + 2 * pair, keys[page] + pair * 2 * kPageTokens);
        }
        std::memcpy(s + r * kBlockTokens + page * kPageTokens, sum, sizeof sum);
      }
    }
  }

  /// o [rows][padded] += p [rows][kBlockTokens] times values, in tiles [groups][padded/16][16 pairs
  /// of tokens][16][2]
  static void values(float* o, const bf16* p, const bf16* v, int64_t groups, int64_t rows,
                     int64_t padded) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t column = 0; column < padded; column += 16) {
        float sum[16];
        std::memcpy(sum, o + r * padded + column, sizeof sum);
        for (int64_t group = 0; group < groups; ++group) {
          const bf16* tile = v + (group * padded + column) * 32;
          for (int64_t pair = 0; pair < 16; ++pair) {
            add_pair(sum, p + r * kBlockTokens + group * 32 + 2 * pair, tile + pair * 32);
          }
        }
        std::memcpy(o + r * padded + column, sum, sizeof sum);
      }
    }
  }

  /// sum[i] += a[0] * b[i][0] + a[1] * b[i][1]
  static void add_pair(float* sum, const bf16* a, const bf16* b) {
    uint32_t both[16];
    std::memcpy(both, b, sizeof both);
    const float even = widen(a[0]), odd = widen(a[1]);
    for (int64_t i = 0; i < 16; ++i) {
      sum[i] += even * as_float(both[i] << 16);
      sum[i] += odd * as_float(both[i] & 0xffff0000u);
    }
  }
};

/// The scores of a tile's rows in one block of tokens, and what the rows carry from block to block.
struct SoftmaxTile {
  float* s;  ///< [rows][kBlockTokens] scores, the first `width` of each row
  bf16* p;   ///< [rows][kBlockTokens] e^(scale (s - highest))
  const int64_t*
      seen;  ///< [rows] tokens of the block that a row sees, at most `width` or beyond it
  int64_t rows, width;  ///< width: a multiple of 32
  float scale;
  float *highest, *denominator;  ///< [rows] of all blocks so far
  float* shrink;                 ///< [rows] what the sums of the blocks before are worth now
};

/// The softmax of a tile as plain loops, row by row.
struct LoopSoftmax {
  /// Masks what a row does not see, and fills p, highest, denominator and shrink. False where every
  /// shrink is 1.
  static bool tile(const SoftmaxTile& t) {
    bool shrunk = false;
    for (int64_t r = 0; r < t.rows; ++r) {
      float* s = t.s + r * kBlockTokens;
      const float before = t.highest[r], highest = mask_and_highest(s, t.seen[r], t.width, before);
      const float sum = exponentials(t.p + r * kBlockTokens, s, t.width, t.scale, highest);
      t.shrink[r] = highest == before ? 1 : exponential(t.scale * (before - highest));
      t.denominator[r] = t.denominator[r] * t.shrink[r] + sum;
      t.highest[r] = highest;
      shrunk |= highest != before;
    }
    return shrunk;
  }

 private:
  /// The maximum of the scores that are seen and `highest`; masks the others
  static float mask_and_highest(float* s, int64_t seen, int64_t width, float highest) {
    float partial[kLanes];
    for (float& value : partial) value = highest;
    for (int64_t t = 0; t < width; t += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float score = t + lane < seen ? s[t + lane] : kMasked;
        s[t + lane] = score;
        partial[lane] = score > partial[lane] ? score : partial[lane];
      }
    }
    return fold_lanes(partial, [](float a, float b) { return a > b ? a : b; });
  }

  /// p = e^(scale (s - highest)); returns their sum, in the order of kLanes partial sums
  static float exponentials(bf16* p, const float* s, int64_t width, float scale, float highest) {
    float partial[kLanes] = {};
    for (int64_t t = 0; t < width; t += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float value = exponential(scale * (s[t + lane] - highest));
        partial[lane] += value;
        p[t + lane] = narrow<bf16>(value);
      }
    }
    return fold_lanes(partial, [](float a, float b) { return a + b; });
  }
};

/// The work memory of a task of `count` queries.
struct AttentionScratch {
  bf16 *q, *p, *v;
  float *s, *o, *highest, *denominator;
  int64_t* row;

  AttentionScratch(int64_t padded, int64_t count) {
    // A tile may begin at any query and always takes kTileRows of them.
    const int64_t queries = count + kTileRows;
    const int64_t q_bytes = queries * padded * 2, p_bytes = kTileRows * kBlockTokens * 2,
                  v_bytes = kBlockTokens * padded * 2, s_bytes = kTileRows * kBlockTokens * 4,
                  o_bytes = queries * padded * 4;
    char* at = static_cast<char*>(scratch(
        Scratch::kAttention, q_bytes + p_bytes + v_bytes + s_bytes + o_bytes + queries * 16));
    const auto take = [&at](int64_t bytes) {
      char* from = at;
      at += bytes;
      return from;
    };
    q = reinterpret_cast<bf16*>(take(q_bytes));
    p = reinterpret_cast<bf16*>(take(p_bytes));
    v = reinterpret_cast<bf16*>(take(v_bytes));
    s = reinterpret_cast<float*>(take(s_bytes));
    o = reinterpret_cast<float*>(take(o_bytes));
    row = reinterpret_cast<int64_t*>(take(queries * 8));
    highest = reinterpret_cast<float*>(take(queries * 4));
    denominator = reinterpret_cast<float*>(take(queries * 4));
    std::memset(q, 0, q_bytes);
    std::memset(o, 0, o_bytes);
    std::memset(p, 0, p_bytes);
  }
};

}  // namespace
}  // namespace aerie::cpu
