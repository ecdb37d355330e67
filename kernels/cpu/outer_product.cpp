#include "kernels/cpu/outer_product.h"

#include <cstring>

#include "kernels/cpu/scratch.h"

namespace aerie::cpu {

void add_outer_product(const OuterProduct& problem) {
  if (problem.rows == 0) return;
  const int64_t padded = (problem.rows + kKBlock - 1) / kKBlock * kKBlock;
  const int64_t stride =
      padded / kKBlock % 2 == 0 ? padded + kKBlock : padded;  // rows in different cache sets
  auto* turned = static_cast<bf16*>(
      scratch(Scratch::kTurned, static_cast<size_t>(problem.outputs * stride) * sizeof(bf16)));
  transpose(turned, stride, problem.dy, problem.dy_stride, problem.rows, problem.outputs);
  for (int64_t o = 0; padded > problem.rows && o < problem.outputs;
       ++o) {  // gemm reads whole blocks of k
    std::memset(turned + o * stride + problem.rows, 0,
                static_cast<size_t>(padded - problem.rows) * sizeof(bf16));
  }
  auto* packed = static_cast<bf16*>(
      scratch(Scratch::kPacked,
              static_cast<size_t>(packed_size(problem.inputs, problem.rows)) * sizeof(bf16)));
  pack_b(packed, problem.x, problem.x_stride, problem.inputs, problem.rows, Source::kKN);
  gemm({.m = problem.outputs,
        .n = problem.inputs,
        .k = padded,
        .a = turned,
        .lda = stride,
        .b = packed,
        .c_f32 = problem.sum,
        .c_bf16 = nullptr,
        .ldc = problem.inputs,
        .accumulate = true});
}

}  // namespace aerie::cpu
