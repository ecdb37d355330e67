// The little that the CUDA module needs of the CUDA runtime: where to launch, and whether it went
// well; and NCCL.
#pragma once
#include <torch/types.h>

#include <functional>

#include "kernels/cuda/launch.h"
#include "kernels/cuda_ops.h"

namespace aerie::cuda {

int device_count();
int multiprocessors(const at::Tensor& on);

/// As CudaOps says.
c10::intrusive_ptr<c10d::Backend> nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                               int rank, int ranks,
                                               std::chrono::milliseconds timeout);

/// Calls `work` with the current stream of the tensor's device, which is made current. Throws Error
/// naming `op` if a launch failed.
void on_device(const char* op, const at::Tensor& on, const std::function<void(Stream)>& work);

template <typename Arguments>
void start(const char* op, const at::Tensor& on, void (*launcher)(const Arguments&, Stream),
           const Arguments& arguments) {
  on_device(op, on, [&](Stream stream) { launcher(arguments, stream); });
}

}  // namespace aerie::cuda
