// The inner kernels of gemm.h, one for each instruction set. Each computes rows [row_begin,row_end)
// of panels [panel_begin,panel_end) in the caller's thread. k is a multiple of kKBlock.
#pragma once
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {

struct GemmBlock {
  int64_t row_begin, row_end, panel_begin, panel_end;
};

void gemm_block_portable(const Gemm& problem, const GemmBlock& block);
void gemm_block_avx2(const Gemm& problem, const GemmBlock& block);
void gemm_block_avx512(const Gemm& problem, const GemmBlock& block);
void gemm_block_amx(const Gemm& problem, const GemmBlock& block);

}  // namespace aerie::cpu
