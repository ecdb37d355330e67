#include "kernels/cpu/paged_attention_loops.h"
#include "kernels/cpu/softmax_avx512.h"

namespace aerie::cpu {

void attend_avx512(const PagedChunk& chunk, const AttentionPart& part) {
  AttentionTask<LoopProducts, VectorSoftmax>(chunk, part).run();
}

}  // namespace aerie::cpu
