// Training-time-test attention by BF16 dot products, where there are no tiles.
#include "kernels/cpu/dot_rows_avx512.h"
#include "kernels/cpu/ttt_backward_avx512.h"
#include "kernels/cpu/ttt_forward_avx512.h"

namespace aerie::cpu {
namespace {

struct DotProducts {
  void multiply_turned(float* products, int64_t stride, const bf16* a, const bf16* turned,
                       int64_t blocks, int64_t d) const {
    const int64_t group = d * 16;
    for (int64_t block = 0; block < blocks; block += 2) {
      const bf16* b = turned + block * group;
      for_rows(16, [&](auto sums, int64_t row) {
        sums.clear();
        sums.add(a + row * d, d, b, b + group, d / 2);
        sums.store(products + row * stride + block * 16, stride);
      });
    }
  }

  void multiply_paired(float* sums, const bf16* p, int64_t stride, const bf16* paired,
                       int64_t chunks, int64_t d, bool add) const {
    for (int64_t column = 0; column < d; column += 32) {
      for_rows(16, [&](auto rows, int64_t row) {
        const bf16* b = paired + column / 16 * kTileElements;
        rows.clear();
        if (add) rows.load(sums + row * d + column, d);
        for (int64_t chunk = 0; chunk < chunks; ++chunk, b += d * 32)
          rows.add(p + row * stride + chunk * 32, stride, b, b + kTileElements, 16);
        rows.store(sums + row * d + column, d);
      });
    }
  }
};

}  // namespace

const AttentionKernels kAttentionAvx512 = {pack_keys, pack_queries, attention_forward<DotProducts>,
                                           attention_backward_queries<DotProducts>,
                                           attention_backward_keys<DotProducts>};

}  // namespace aerie::cpu
