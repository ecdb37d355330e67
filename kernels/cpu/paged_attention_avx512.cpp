#include "kernels/cpu/paged_attention_loops.h"
#include "kernels/cpu/softmax_avx512.h"

namespace aerie::cpu {

void attend_avx512(const PagedChunk& chunk, int64_t kv_head, int64_t first) {
  AttentionTask<LoopProducts, VectorSoftmax>(chunk, kv_head, first).run();
}

}  // namespace aerie::cpu
