#include "kernels/cpu/paged_attention_loops.h"

namespace aerie::cpu {

void attend_portable(const PagedChunk& chunk, int64_t kv_head, int64_t first) {
  AttentionTask<LoopProducts, LoopSoftmax>(chunk, kv_head, first).run();
}

}  // namespace aerie::cpu
