// The elements of a contiguous bf16 tensor as the kernels that know no torch take them.
#pragma once
#include "kernels/cpu/gemm.h"
#include "kernels/ops.h"

namespace aerie::ops {

inline const aerie::cpu::bf16* bits(const Tensor& tensor) {
  return static_cast<const aerie::cpu::bf16*>(tensor.const_data_ptr());
}
inline aerie::cpu::bf16* mutable_bits(const Tensor& tensor) {
  return static_cast<aerie::cpu::bf16*>(tensor.mutable_data_ptr());
}

}  // namespace aerie::ops
