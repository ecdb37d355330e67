// Speed of the CPU kernels at the shapes of SmolLM2-135M, all figures of one run: memory bandwidth,
// the linear layers of a decode step, what more rows cost, matrix products against ATen, attention
// and the small ops. usage: benchmark_kernels [--threads N]
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <string>

#include "common/memory.h"
#include "common/threads.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace aerie {
namespace {

constexpr int64_t kLayers = 30, kHidden = 576, kIntermediate = 1536, kHeads = 9, kKvHeads = 3,
                  kHeadDim = 64;
constexpr int64_t kVocab = 49152;

/// The best of several runs, in seconds.
template <typename Body>
double seconds(int runs, const Body& body) {
  double best = 1e30;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

Tensor random_bf16(at::IntArrayRef size) { return at::randn(size).mul_(0.05).to(at::kBFloat16); }

struct Layer {
  ops::LinearWeight qkv, o, gate_up, down;
};

struct Weights {
  std::vector<Layer> layers;
  ops::LinearWeight head;
  double bytes = 0;

  Weights() {
    for (int64_t i = 0; i < kLayers; ++i) {
      layers.push_back({make((kHeads + 2 * kKvHeads) * kHeadDim, kHidden), make(kHidden, kHidden),
                        make(2 * kIntermediate, kHidden), make(kHidden, kIntermediate)});
    }
    head = make(kVocab, kHidden);
  }
  ops::LinearWeight make(int64_t out, int64_t in) {
    bytes += 2.0 * static_cast<double>(out * in);
    return ops::pack_linear(random_bf16({out, in}));
  }
};

void linear_stack(const Weights& weights, const Tensor& x, const Tensor& wide) {
  for (const Layer& layer : weights.layers) {
    ops::linear(x, layer.qkv);
    ops::linear(x, layer.o);
    ops::linear(x, layer.gate_up);
    ops::linear(wide, layer.down);
  }
  ops::linear(x, weights.head);
}

void report_decode(const Weights& weights, double bandwidth) {
  fmt::print(
      "\nlinear layers of one step ({:.0f} MB of weights)\n  rows      ms    GB/s  of bandwidth  "
      "cost of 1 row\n",
      weights.bytes / 1e6);
  double one = 0;
  for (int64_t rows : {1, 2, 4, 8, 16, 32, 64}) {
    const Tensor x = random_bf16({rows, kHidden}), wide = random_bf16({rows, kIntermediate});
    const double time = seconds(8, [&] { linear_stack(weights, x, wide); });
    if (rows == 1) one = time;
    fmt::print("  {:4} {:7.2f} {:7.1f} {:11.0f} % {:12.2f}x\n", rows, time * 1e3,
               weights.bytes / time / 1e9, 100 * weights.bytes / time / bandwidth, time / one);
  }
}

/// S sequences of `context` cached tokens with `rows` new rows each.
RaggedLayout layout_of(int64_t sequences, int64_t rows, int64_t context) {
  const int64_t pages = (context + KvPool::kPageSize - 1) / KvPool::kPageSize;
  RaggedLayout layout;
  layout.q_start = at::arange(sequences + 1, at::kInt) * rows;
  layout.kv_len = at::full({sequences}, context, at::kInt);
  layout.pages = at::arange(sequences * pages, at::kInt).view({sequences, pages});
  const Tensor last = at::arange(context - rows, context, at::kLong);
  layout.slots =
      (at::arange(sequences, at::kLong).unsqueeze(1) * pages * KvPool::kPageSize + last).flatten();
  layout.max_q = rows;
  layout.max_kv = context;
  return layout;
}

/// A whole step of the network but the embedding: what a model's forward does.
void model_step(const Weights& weights, KvPool& pool, const RaggedLayout& layout,
                const ops::RopeTable& table, const Tensor& norm, Tensor& residual,
                const Tensor& positions) {
  const int64_t rows = residual.size(0);
  Tensor x = ops::rms_norm(residual, norm, 1e-5);
  for (int64_t i = 0; i < kLayers; ++i) {
    const Layer& layer = weights.layers[i];
    const Tensor qkv = ops::linear(x, layer.qkv).view({rows, kHeads + 2 * kKvHeads, kHeadDim});
    const Tensor qk = ops::rope(qkv.narrow(1, 0, kHeads + kKvHeads), positions, table);
    ops::kv_append_(pool, i, qk.narrow(1, kHeads, kKvHeads),
                    qkv.narrow(1, kHeads + kKvHeads, kKvHeads), layout.slots);
    const Tensor mixed = ops::ragged_attention(qk.narrow(1, 0, kHeads), pool, i, layout, 0.125);
    const Tensor attended = ops::linear(mixed.view({rows, kHidden}), layer.o);
    x = ops::add_rms_norm_(residual, attended, norm, 1e-5);
    const Tensor mlp = ops::linear(ops::swiglu(ops::linear(x, layer.gate_up)), layer.down);
    x = ops::add_rms_norm_(residual, mlp, norm, 1e-5);
  }
  ops::linear(rows > 64 ? x.slice(0, rows - 1) : x, weights.head);
}

void report_steps(const Weights& weights, double bandwidth) {
  fmt::print("\nwhole steps, attention and norms included\n");
  const ops::RopeTable table = ops::make_rope_table(at::rand({kHeadDim / 2}), 4096);
  const Tensor norm = at::ones({kHidden});
  double one = 0;
  for (const auto& [sequences, rows, context] : {std::tuple{1, 1, 256},
                                                 {1, 8, 256},
                                                 {8, 1, 256},
                                                 {16, 1, 256},
                                                 {8, 6, 256},
                                                 {1, 512, 512},
                                                 {1, 1024, 1024}}) {
    const RaggedLayout layout = layout_of(sequences, rows, context);
    KvPool pool = ops::make_kv_pool(kLayers, layout.pages.numel(), kKvHeads, kHeadDim,
                                    at::kBFloat16, at::kCPU);
    const int64_t count = sequences * rows;
    const Tensor positions = at::arange(count, at::kLong);
    Tensor residual = random_bf16({count, kHidden});
    const double time = seconds(count > 64 ? 3 : 8, [&] {
      model_step(weights, pool, layout, table, norm, residual, positions);
    });
    if (one == 0) one = time;
    fmt::print(
        "  {:2} sequences x {:4} rows, context {:4}: {:7.2f} ms {:6.0f} rows/s, {:5.2f}x of one "
        "row",
        sequences, rows, context, time * 1e3, static_cast<double>(count) / time, time / one);
    if (count == 1)
      fmt::print(", {:.0f} % of the bandwidth bound", 100 * weights.bytes / bandwidth / time);
    fmt::print("\n");
  }
}

void report_products() {
  fmt::print("\nmatrix products in bf16, GFLOP/s\n     M      N     K   Aerie    ATen\n");
  at::set_num_threads(num_threads());
  for (int64_t rows : {512, 1024, 2048}) {
    for (const auto& [out, in] :
         {std::pair{1536, 576}, {960, 576}, {576, 576}, {3072, 576}, {576, 1536}, {49152, 576}}) {
      if (rows > 512 && out > 10000) continue;
      const Tensor x = random_bf16({rows, in}), weight = random_bf16({out, in});
      const ops::LinearWeight packed = ops::pack_linear(weight);
      const double flop = 2e-9 * static_cast<double>(rows * out) * in;
      const int runs = out > 10000 ? 3 : 10;
      const double ours = seconds(runs, [&] { ops::linear(x, packed); });
      const double theirs = seconds(runs, [&] { at::linear(x, weight); });
      fmt::print("  {:4} {:6} {:5} {:7.0f} {:7.0f}\n", rows, out, in, flop / ours, flop / theirs);
    }
  }
  at::set_num_threads(1);
}

void run(const std::string& part) {
  const double bandwidth = ops::measure_read_bandwidth();
  fmt::print("{} threads, {}; memory read {:.1f} GB/s\n", num_threads(),
             cpu::isa_name(cpu::best_isa()), bandwidth / 1e9);
  const Weights weights;
  if (part.empty() || part == "linear") report_decode(weights, bandwidth);
  if (part.empty() || part == "steps") report_steps(weights, bandwidth);
  if (part.empty() || part == "products") report_products();
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  aerie::set_up_memory();
  at::set_num_threads(1);
  at::manual_seed(1);
  aerie::run(argc > 1 ? argv[1] : "");
}
