#include "kernels/cpu/gemm_loops.h"

namespace aerie::cpu {

void gemm_block_portable(const Gemm& g, const GemmBlock& block) { gemm_block_loops(g, block); }

}  // namespace aerie::cpu
