// The little that the CUDA module needs of the CUDA runtime: where to launch, and whether it went
// well.
#pragma once
#include <torch/types.h>

#include <functional>

#include "kernels/cuda/launch.h"

namespace aerie::cuda {

int device_count();
int multiprocessors(const at::Tensor& on);

/// Calls `work` with the current stream of the tensor's device, which is made current. Throws Error
/// naming `op` if a launch failed.
void on_device(const char* op, const at::Tensor& on, const std::function<void(Stream)>& work);

template <typename Arguments>
void start(const char* op, const at::Tensor& on, void (*launcher)(const Arguments&, Stream),
           const Arguments& arguments) {
  on_device(op, on, [&](Stream stream) { launcher(arguments, stream); });
}

}  // namespace aerie::cuda
