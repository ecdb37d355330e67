#include "kernels/cpu/dot_rows_avx2.h"
#include "kernels/cpu/paged_attention_loops.h"

namespace aerie::cpu {
namespace {

/// The two products, four rows by a tile at a time.
struct DotProducts {
  static void begin() {}
  static void end() {}

  static void scores(float* s, const bf16* q, const bf16* const* keys, int64_t count, int64_t rows,
                     int64_t padded) {
    for (int64_t page = 0; page < count; ++page) {
      for_rows(rows, [&](auto sums, int64_t row) {
        sums.clear();
        sums.add(q + row * padded, padded, keys[page], padded / 2);
        sums.store(s + row * kBlockTokens + page * kPageTokens, kBlockTokens);
      });
    }
  }

  static void values(float* o, const bf16* p, const bf16* v, int64_t groups, int64_t rows,
                     int64_t padded) {
    for (int64_t column = 0; column < padded; column += 16) {
      for_rows(rows, [&](auto sums, int64_t row) {
        float* to = o + row * padded + column;
        sums.load(to, padded);
        for (int64_t group = 0; group < groups; ++group) {
          sums.add(p + row * kBlockTokens + group * 32, kBlockTokens,
                   v + (group * padded + column) * 32, 16);
        }
        sums.store(to, padded);
      });
    }
  }
};

}  // namespace

void attend_avx2(const PagedChunk& chunk, const AttentionPart& part) {
  AttentionTask<DotProducts, LoopSoftmax>(chunk, part).run();
}

}  // namespace aerie::cpu
