// From tensors to what the launchers take.
#pragma once
#include <torch/types.h>

#include "common/error.h"
#include "kernels/cuda/launch.h"

namespace aerie::cuda {

inline Dtype dtype_of(const at::Tensor& tensor) {
  AERIE_CHECK(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16,
              "the CUDA kernels compute in bf16 or f32, not {}: set --dtype",
              c10::toString(tensor.scalar_type()));
  return tensor.scalar_type() == at::kFloat ? Dtype::kFloat32 : Dtype::kBFloat16;
}

/// A weight in the activations' type or in f32, whichever it is nearer to.
inline at::Tensor usable_weight(const at::Tensor& weight, const at::Tensor& x) {
  const bool usable = weight.scalar_type() == at::kFloat || weight.scalar_type() == x.scalar_type();
  return (usable ? weight : weight.to(at::kFloat)).contiguous();
}

template <typename T>
const T* data(const at::Tensor& tensor) {
  return tensor.const_data_ptr<T>();
}

/// Attention's tiles move 16 bytes at a time and hold a head in a warp's registers.
inline void check_head_dim(const char* op, int64_t head_dim) {
  AERIE_CHECK(head_dim % 8 == 0 && head_dim <= kMaxHeadDim,
              "{} on CUDA: head size {} is not a multiple of 8 up to {}; use --device cpu", op,
              head_dim, kMaxHeadDim);
}

}  // namespace aerie::cuda
