// c10d's NCCL, in a file of its own: its headers take twenty seconds.
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>

#include "kernels/cuda/runtime.h"

namespace aerie::cuda {

c10::intrusive_ptr<c10d::Backend> nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                               int rank, int ranks,
                                               std::chrono::milliseconds timeout) {
  // A wait that only orders streams would leave a dead rank to c10d's watchdog, which aborts the
  // process without a word about who died.
  ::setenv("TORCH_NCCL_BLOCKING_WAIT", "1", 0);
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, ranks, options);
}

}  // namespace aerie::cuda
