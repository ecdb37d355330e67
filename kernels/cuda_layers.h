// The layers' ops on CUDA, as ops.h declares them: the module's kernels, recorded for autograd
// where an input requires a gradient. `kernels` is another table only in tests.
#pragma once
#include "kernels/cuda_ops.h"
#include "kernels/device.h"

namespace aerie::ops::cuda {

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps,
                const CudaOps& kernels = cuda_ops());
Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table,
            const CudaOps& kernels = cuda_ops());
Tensor swiglu(const Tensor& gate_up, const CudaOps& kernels = cuda_ops());

}  // namespace aerie::ops::cuda
