// Whole blocks of pack.cpp by AVX-512; what sticks out at the edges stays with its plain loops.
#pragma once
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {

/// 16 outputs (rows of the source) by 32 k -> a tile [16 pairs of k][16 outputs][2].
void pack_tile_nk_avx512(bf16* tile, const bf16* source, int64_t ld);
void pack_tile_nk_avx512(bf16* tile, const float* source, int64_t ld);
/// The same from 32 k (rows of the source) by 16 outputs.
void pack_tile_kn_avx512(bf16* tile, const bf16* source, int64_t ld);
void pack_tile_kn_avx512(bf16* tile, const float* source, int64_t ld);
/// 32 rows by 32 columns -> their transpose.
void turn_block_avx512(bf16* out, int64_t out_ld, const bf16* source, int64_t ld);

}  // namespace aerie::cpu
