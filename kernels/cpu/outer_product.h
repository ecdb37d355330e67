// The gradient of a linear layer's weight: dW += dy^T x, summed in f32 straight into the gradient
// buffer.
#pragma once
#include "kernels/cpu/gemm.h"

namespace aerie::cpu {

struct OuterProduct {
  float* sum = nullptr;  ///< [outputs,inputs] f32, added to
  int64_t outputs = 0, inputs = 0, rows = 0;
  const bf16* dy = nullptr;  ///< [rows,outputs]
  int64_t dy_stride = 0;
  const bf16* x = nullptr;  ///< [rows,inputs]
  int64_t x_stride = 0;
};

/// In parallel; every element is summed over the rows in one order, whatever the number of threads.
void add_outer_product(const OuterProduct& problem);

}  // namespace aerie::cpu
