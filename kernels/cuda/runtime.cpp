#include "kernels/cuda/runtime.h"

#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "common/error.h"

namespace aerie::cuda {

int device_count() { return c10::cuda::device_count(); }

int multiprocessors(const at::Tensor& on) {
  int count = 0;
  const cudaError_t error =
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, on.get_device());
  AERIE_CHECK(error == cudaSuccess, "CUDA device {}: {}", int(on.get_device()),
              cudaGetErrorString(error));
  return count;
}

void on_device(const char* op, const at::Tensor& on, const std::function<void(Stream)>& work) {
  const c10::cuda::CUDAGuard guard(on.device());
  work(c10::cuda::getCurrentCUDAStream(on.get_device()).stream());
  const cudaError_t error = cudaGetLastError();
  AERIE_CHECK(error == cudaSuccess, "{} on CUDA device {}: {}", op, int(on.get_device()),
              cudaGetErrorString(error));
}

}  // namespace aerie::cuda
