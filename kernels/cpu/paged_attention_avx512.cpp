#include "kernels/cpu/dot_rows_avx512.h"
#include "kernels/cpu/paged_attention_loops.h"
#include "kernels/cpu/softmax_avx512.h"

namespace aerie::cpu {
namespace {

/// The two products by dot products of pairs, rows by two tiles at a time.
struct DotProducts {
  static void begin() {}
  static void end() {}

  static void scores(float* s, const bf16* q, const bf16* const* keys, int64_t count, int64_t rows,
                     int64_t padded) {
    for (int64_t page = 0; page < count; page += 2) {
      // The last page of an odd number is summed twice, to columns that the softmax masks.
      const bf16 *first = keys[page], *second = keys[page + 1 < count ? page + 1 : page];
      for_rows(rows, [&](auto sums, int64_t row) {
        sums.clear();
        sums.add(q + row * padded, padded, first, second, padded / 2);
        sums.store(s + row * kBlockTokens + page * kPageTokens, kBlockTokens);
      });
    }
  }

  static void values(float* o, const bf16* p, const bf16* v, int64_t groups, int64_t rows,
                     int64_t padded) {
    for (int64_t column = 0; column < padded; column += 32) {
      for_rows(rows, [&](auto sums, int64_t row) {
        float* to = o + row * padded + column;
        sums.load(to, padded);
        for (int64_t group = 0; group < groups; ++group) {
          const bf16* tile = v + (group * padded + column) * 32;
          sums.add(p + row * kBlockTokens + group * 32, kBlockTokens, tile, tile + 512, 16);
        }
        sums.store(to, padded);
      });
    }
  }
};

}  // namespace

void attend_avx512(const PagedChunk& chunk, const AttentionPart& part) {
  AttentionTask<DotProducts, VectorSoftmax>(chunk, part).run();
}

}  // namespace aerie::cpu
