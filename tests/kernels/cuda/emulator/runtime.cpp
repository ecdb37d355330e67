// kernels/cuda/runtime.h on the emulator: tensors of the CPU, one device, no streams.
#include "kernels/cuda/runtime.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "common/error.h"
#include "tests/kernels/cuda/tested.h"

extern "C" const aerie::CudaOps* aerie_cuda_ops();

namespace aerie {
namespace {

int emulated_multiprocessors = 1;

}  // namespace

namespace cuda {

int device_count() { return 1; }

int multiprocessors(const at::Tensor&) { return emulated_multiprocessors; }

void on_device(const char*, const at::Tensor&, const std::function<void(Stream)>& work) {
  work(nullptr);
}

c10::intrusive_ptr<c10d::Backend> nccl_backend(const c10::intrusive_ptr<c10d::Store>&, int, int,
                                               std::chrono::milliseconds) {
  fail("the emulator has no NCCL");
}

}  // namespace cuda

const CudaOps& tested() { return *aerie_cuda_ops(); }

void set_multiprocessors(int count) { emulated_multiprocessors = count; }

}  // namespace aerie
