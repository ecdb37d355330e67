#include "kernels/cpu/paged_attention_loops.h"

namespace aerie::cpu {

void attend_avx2(const PagedChunk& chunk, const AttentionPart& part) {
  AttentionTask<LoopProducts, LoopSoftmax>(chunk, part).run();
}

}  // namespace aerie::cpu
