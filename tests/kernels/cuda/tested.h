// The CUDA kernels under test, called with tensors of the CPU. test_cuda_emulated runs them on the
// block emulator, test_cuda_device, where there is one, on a GPU: the same tests, the same
// tolerances.
#pragma once
#include <gtest/gtest.h>

#include "kernels/cuda_ops.h"

namespace aerie {

const CudaOps& tested();

/// How many multiprocessors the emulated device has, on which launch shapes depend. A GPU has what
/// it has.
void set_multiprocessors(int count);
/// 0 forward, 1 reverse, 2 shuffled: in which order the emulated threads of a block take turns.
void set_thread_order(int order);

/// Calls compute() with the threads in three orders: without a race all results agree bit for bit.
/// Returns the first.
template <typename Compute>
std::vector<Tensor> in_every_order(const Compute& compute) {
  std::vector<std::vector<Tensor>> results;
  for (const int order : {0, 1, 2}) {
    set_thread_order(order);
    results.push_back(compute());
  }
  set_thread_order(0);
  for (size_t order = 1; order < results.size(); ++order) {
    for (size_t i = 0; i < results[0].size(); ++i) {
      EXPECT_TRUE(results[0][i].equal(results[order][i]))
          << "result " << i << " depends on the order of threads";
    }
  }
  return results[0];
}

/// Largest |a - b| relative to the largest |b| (at least 1).
inline double distance(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  if (x.sizes() != y.sizes()) return INFINITY;
  if (x.numel() == 0) return 0;
  return (x - y).abs().max().item<double>() / std::max(1.0, y.abs().max().item<double>());
}

/// f32 to 1e-5; bf16 to two units of its last place.
inline double tolerance(at::ScalarType type) { return type == at::kFloat ? 1e-5 : 1.0 / 128; }

inline Tensor random(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
  return at::randn(sizes).to(type);
}

}  // namespace aerie
