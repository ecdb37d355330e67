// Times the trainer's kernels at the shapes of SmolLM2's draft: the loss part alone (fused head,
// forward + backward), the attention of one unroll step, and the bf16 matrix products beside the
// machine's peak. One line a figure. usage: benchmark_training_kernels [rounds]
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/threads.h"
#include "kernels/cpu/gemm.h"
#include "kernels/ops.h"
#include "tests/benchmarks/process_memory.h"

namespace aerie {
namespace {

using testing::reset_peak;
using testing::status_bytes;

constexpr int64_t kHidden = 576, kVocab = 49152, kDraftVocab = 8192, kRows = 2048, kDepths = 7;
constexpr double kGiB = 1 << 30;

int rounds = 5;

/// Shortest of `rounds` runs, in seconds.
double time(const std::function<void()>& run) {
  double best = 1e30;
  run();
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

Tensor random_bf16(at::IntArrayRef sizes) { return at::randn(sizes).to(at::kBFloat16); }

/// Highest rate that the product of two operands in the second-level cache reaches.
double peak_flops() {
  const int64_t m = 512, n = 512, k = 512;
  const Tensor a = random_bf16({m, k}), weight = random_bf16({n, k});
  const ops::LinearWeight packed = ops::pack_linear(weight);
  at::NoGradGuard no_grad;
  const double seconds = time([&] {
    for (int i = 0; i < 50; ++i) ops::linear(a, packed);
  });
  return 50 * 2.0 * m * n * k / seconds;
}

void report_products(double peak) {
  struct Product {
    const char* name;
    int64_t rows, inputs, outputs;
  };
  for (const Product& p : {Product{"gate_up", 1200, 576, 3072}, Product{"down", 1200, 1536, 576},
                           Product{"kv", 1200, 1152, 384}, Product{"head", 1200, 576, 8192}}) {
    const Tensor x = random_bf16({p.rows, p.inputs}).requires_grad_();
    const Tensor master = at::randn({p.outputs, p.inputs}).requires_grad_();
    const ops::LinearWeight weight = ops::pack_trainable(master, at::kBFloat16);
    const Tensor dy = random_bf16({p.rows, p.outputs});
    const double flops = 2.0 * static_cast<double>(p.rows * p.inputs * p.outputs);
    const double forward = time([&] {
      at::NoGradGuard no_grad;
      ops::linear(x, weight);
    });
    const double both = time([&] { ops::linear(x, weight).backward(dy); });
    std::printf(
        "linear %-8s [%ld,%ld]x[%ld]: forward %6.2f ms, %4.0f GFLOP/s, %2.0f %% of peak; with "
        "backward %6.2f ms, "
        "%4.0f GFLOP/s, %2.0f %%\n",
        p.name, p.rows, p.inputs, p.outputs, forward * 1e3, flops / forward / 1e9,
        100 * flops / forward / peak, both * 1e3, 3 * flops / both / 1e9,
        100 * 3 * flops / both / peak);
  }
}

void report_loss(double peak) {
  const int64_t supervised = kRows / 2, students = supervised * kDepths;
  const ops::LinearWeight teacher_head = ops::pack_linear(random_bf16({kVocab, kHidden}) * 0.05);
  const Tensor target_of =
      std::get<0>(at::randperm(kVocab, at::kLong).slice(0, 0, kDraftVocab).sort());
  Tensor draft_of = at::full({kVocab}, -1, at::kLong);
  draft_of.index_put_({target_of}, at::arange(kDraftVocab, at::kLong));
  const ops::Teacher teacher{random_bf16({kRows, kHidden}), &teacher_head, target_of, draft_of};
  const Tensor hidden = random_bf16({students, kHidden}).requires_grad_();
  const Tensor master = (at::randn({kDraftVocab, kHidden}) * 0.05).requires_grad_();
  const ops::LinearWeight head = ops::pack_trainable(master, at::kBFloat16);
  const Tensor teacher_row = at::arange(supervised, at::kLong).repeat({kDepths}) + 512;
  const Tensor weight = at::full({students}, 1e-3);
  const double before = status_bytes("VmRSS");
  reset_peak();
  const double seconds = time([&] {
    master.mutable_grad() = Tensor();
    hidden.mutable_grad() = Tensor();
    ops::head_loss(hidden, head, teacher, teacher_row, weight).total.backward();
  });
  const double peak_extra = status_bytes("VmHWM") - before;
  const double flops =
      2.0 * kHidden * static_cast<double>(supervised * kVocab + 3 * students * kDraftVocab);
  std::printf(
      "loss part T %ld, W %ld, %ld depths, half supervised: %.3f s, %.3f GiB extra, %4.0f GFLOP/s, "
      "%2.0f %% of peak\n",
      kRows, kDraftVocab, kDepths, seconds, peak_extra / kGiB, flops / seconds / 1e9,
      100 * flops / seconds / peak);
}

void report_attention() {
  const int64_t heads = 9, kv_heads = 3, d = 64, supervised = 1228;
  const Tensor q_start = at::tensor({0, 431, 790, 1100, 1580, 2048}, at::kInt);
  const Tensor rows = std::get<0>(at::randperm(kRows, at::kLong).slice(0, 0, supervised).sort());
  const auto leaf = [&](int64_t count, int64_t of) {
    return random_bf16({count, of, d}).requires_grad_();
  };
  const Tensor q = leaf(supervised, heads), k = leaf(kRows, kv_heads), v = leaf(kRows, kv_heads);
  std::vector<Tensor> k_steps, v_steps;
  for (int i = 0; i < 6; ++i) {
    k_steps.push_back(leaf(supervised, kv_heads));
    v_steps.push_back(leaf(supervised, kv_heads));
  }
  const Tensor d_out = random_bf16({supervised, heads, d});
  Tensor out;
  const double forward =
      time([&] { out = ops::ttt_attention(q, rows, k, v, q_start, k_steps, v_steps, 0.125); });
  const double both = time(
      [&] { ops::ttt_attention(q, rows, k, v, q_start, k_steps, v_steps, 0.125).backward(d_out); });
  std::printf(
      "ttt_attention, 2048 tokens in 5 documents, %ld query rows, 6 earlier steps: forward %.2f "
      "ms, backward %.2f ms\n",
      supervised, forward * 1e3, (both - forward) * 1e3);
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  at::set_num_threads(1);
  if (argc > 1) aerie::rounds = std::max(1, std::atoi(argv[1]));
  const double peak = aerie::peak_flops();
  std::printf("%d threads, %s, bf16 product peak %.0f GFLOP/s\n", aerie::num_threads(),
              aerie::cpu::isa_name(aerie::cpu::best_isa()), peak / 1e9);
  aerie::report_products(peak);
  aerie::report_attention();
  aerie::report_loss(peak);
}
