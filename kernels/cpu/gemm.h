// Matrix product of bf16 activations with a packed bf16 weight, summed in f32; raw pointers, no
// torch.
//
// C [M,N] = A [M,K] * B, with B packed once. One kernel serves one row and two thousand: every
// element of C is summed in the same order, whatever M is and wherever the row stands, so a row's
// result is the same bit for bit.
//
// Packed form: outputs in panels of 32, K in blocks of 32; a panel holds, for each block, two tiles
// of 16 outputs; a tile is [16 pairs of k][16 outputs][2] (the operand of TDPBF16PS and VDPBF16PS),
// 1 KiB. N and K are padded with zeros, so a panel is one contiguous stream: what a single row
// reads at the speed of memory.
#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace aerie::cpu {

/// The bits of a bfloat16; memory of an at::BFloat16 tensor.
using bf16 = uint16_t;

constexpr int64_t kPanel = 32;   ///< outputs of a panel
constexpr int64_t kKBlock = 32;  ///< k of a block

/// Elements that a packed B takes; give them 64-byte alignment.
int64_t packed_size(int64_t n, int64_t k);

/// How the source of pack_b lies in memory.
enum class Source {
  kNK,  ///< [N,K]: a weight [out,in] for y = x W^T
  kKN,  ///< [K,N]: the same weight for dx = dy W, or x [rows,in] for dW = dy^T x
};

/// Packs a source whose rows are `ld` elements apart, in parallel.
void pack_b(bf16* packed, const bf16* source, int64_t ld, int64_t n, int64_t k, Source order);
void pack_b(bf16* packed, const float* source, int64_t ld, int64_t n, int64_t k, Source order);

/// The bf16 [N,K] back out of its packed form, exactly.
void unpack_b(bf16* out, const bf16* packed, int64_t n, int64_t k);

/// source [rows,columns] (rows `ld` elements apart) -> [columns,rows] bf16 (rows `out_ld` apart),
/// in parallel: the A of dW = dy^T x.
void transpose(bf16* out, int64_t out_ld, const bf16* source, int64_t ld, int64_t rows,
               int64_t columns);
void transpose(bf16* out, int64_t out_ld, const float* source, int64_t ld, int64_t rows,
               int64_t columns);

struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  const bf16* a = nullptr;  ///< [m,k], rows `lda` elements apart
  int64_t lda = 0;
  const bf16* b = nullptr;  ///< pack_b of [n,k]
  float* c_f32 = nullptr;   ///< [m,n], rows `ldc` elements apart: exactly one of the two is given
  bf16* c_bf16 = nullptr;
  int64_t ldc = 0;
  bool accumulate = false;  ///< C += A*B; c_f32 only
};

/// In parallel on the pool of common/threads.h; inside a parallel_for it runs in its caller's
/// thread.
void gemm(const Gemm& problem, Isa isa = best_isa());

}  // namespace aerie::cpu
