// A training step of SmolLM2's draft (loss, backward, update; the target's forward is not part of
// it) beside its matrix products alone, alternately in one run, and its peak memory.
// usage: benchmark_training_step [tokens of the pack] [rounds] [recompute|keep] [tokens of a
// document]
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/memory.h"
#include "common/threads.h"
#include "kernels/cpu/isa.h"
#include "tests/benchmarks/process_memory.h"
#include "trainer/optimizer.h"
#include "trainer/ttt_loss.h"

namespace aerie {
namespace {

using testing::reset_peak;
using testing::status_bytes;

constexpr int64_t kVocab = 49152, kDraftVocab = 8192, kUnroll = 7;
constexpr double kMiB = 1 << 20;

DraftConfig smollm2_draft() {
  DraftConfig config;
  config.hidden = config.target_hidden = 576;
  config.intermediate = 1536;
  config.heads = 9;
  config.kv_heads = 3;
  config.head_dim = 64;
  config.target_layers = 30;
  config.vocab = kVocab;
  config.draft_vocab = kDraftVocab;
  config.max_position = 2048;
  config.rms_norm_eps = 1e-5;
  config.capture_layers = {1, 14, 26};
  return config;
}

Tensor random_bf16(at::IntArrayRef sizes) { return at::randn(sizes).to(at::kBFloat16); }

/// Documents of `length` tokens whose last 60 % are the assistant's.
TrainBatch make_batch(int64_t tokens, int64_t length, int64_t hidden) {
  TrainBatch batch;
  std::vector<int32_t> starts;
  for (int64_t at = 0; at <= tokens; at += length) starts.push_back(static_cast<int32_t>(at));
  batch.tokens = at::randint(kVocab, {tokens}, at::kLong);
  batch.positions = at::arange(tokens).remainder(length);
  batch.q_start = at::tensor(starts, at::kInt);
  batch.loss_mask = batch.positions.ge(length * 2 / 5);
  batch.captured = random_bf16({tokens, 3 * hidden});
  batch.last_hidden = random_bf16({tokens, hidden});
  return batch;
}

double seconds_of(const std::function<void()>& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One of the step's matrix products, with the products of its backward.
class Product {
 public:
  enum Backward { kNone, kWeight, kBoth };
  Product(int64_t inputs, int64_t outputs, Backward backward)
      : inputs_(inputs), outputs_(outputs), backward_(backward) {
    master_ = (at::randn({outputs, inputs}) * 0.05).requires_grad_(backward != kNone);
    weight_ = backward == kNone ? ops::pack_linear(master_.to(at::kBFloat16))
                                : ops::pack_trainable(master_, at::kBFloat16);
  }
  /// Blocks of at most `block` rows: as the step has them, with results that stay in cache.
  void run(int64_t rows, int64_t block = 4096) {
    for (int64_t at = 0; at < rows; at += block) run_block(std::min(block, rows - at));
  }
  double flops(int64_t rows) const {
    return 2.0 * (1 + backward_) * static_cast<double>(rows * inputs_ * outputs_);
  }

 private:
  void run_block(int64_t rows) {
    if (x_.defined() && x_.size(0) < rows) x_ = Tensor();
    if (!x_.defined()) {
      x_ = random_bf16({rows, inputs_});
      d_y_ = random_bf16({rows, outputs_});
    }
    const Tensor x = x_.narrow(0, 0, rows).detach().requires_grad_(backward_ == kBoth);
    const Tensor y = ops::linear(x, weight_);
    if (backward_ != kNone) y.backward(d_y_.narrow(0, 0, rows));
  }

  int64_t inputs_, outputs_;
  Backward backward_;
  Tensor master_, x_, d_y_;
  ops::LinearWeight weight_;
};

/// The products of one step, by the plan's numbers of rows.
class Products {
 public:
  Products(const DraftConfig& c, const UnrollPlan& plan)
      : plan_(plan),
        fc_(3 * c.hidden, c.hidden, Product::kWeight),
        q_(2 * c.hidden, c.heads * c.head_dim, Product::kBoth),
        kv_(2 * c.hidden, 2 * c.kv_heads * c.head_dim, Product::kBoth),
        o_(c.heads * c.head_dim, c.hidden, Product::kBoth),
        gate_up_(c.hidden, 2 * c.intermediate, Product::kBoth),
        down_(c.intermediate, c.hidden, Product::kBoth),
        teacher_(c.hidden, c.vocab, Product::kNone),
        head_(c.hidden, c.draft_vocab, Product::kBoth) {}

  void run() {
    each([](Product& product, int64_t rows, int64_t block) { product.run(rows, block); });
  }
  double flops() {
    double sum = 0;
    each([&](Product& product, int64_t rows, int64_t) { sum += product.flops(rows); });
    return sum;
  }

 private:
  void each(const std::function<void(Product&, int64_t, int64_t)>& visit) {
    const int64_t base = plan_.base_rows.numel(), whole = int64_t{1} << 40;
    visit(fc_, base, whole);
    for (size_t k = 0; k < plan_.depths.size(); ++k) {
      const int64_t rows = plan_.depths[k].count;
      visit(kv_, k == 0 ? base : rows, whole);
      for (Product* product : {&q_, &o_, &gate_up_, &down_}) visit(*product, rows, whole);
    }
    visit(teacher_, plan_.teacher_rows.numel(), 256);
    visit(head_, plan_.pairs, 512);
  }

  const UnrollPlan& plan_;
  Product fc_, q_, kv_, o_, gate_up_, down_, teacher_, head_;
};

void run(int64_t tokens, int64_t length, int rounds, bool recompute) {
  DraftConfig config = smollm2_draft();
  config.max_position = std::max(config.max_position, length + kUnroll);
  DraftParams params = init_draft(config, {}, 1);
  Optimizer optimizer(params, {});
  const Tensor embed = random_bf16({kVocab, config.hidden});
  const ops::LinearWeight head = ops::pack_linear(random_bf16({kVocab, config.hidden}) * 0.05);
  const VocabMap vocab = make_vocab_map(at::arange(kDraftVocab) * 6, kVocab);
  Eagle3Draft draft = Eagle3Draft::trainable(config, params, embed, at::kBFloat16);
  const TrainBatch batch = make_batch(tokens, length, config.hidden);
  const Objective objective{step_weights(0.8, kUnroll), {}, recompute};
  UnrollPlan plan;
  const auto step = [&] {
    plan = plan_unroll(batch.tokens, batch.positions, batch.loss_mask, batch.q_start, kUnroll);
    ttt_loss(draft, batch, plan, {&head, &vocab}, objective).total.backward();
    optimizer.step(1e-5, 1.0 / static_cast<double>(plan.valid_pairs));
    draft.refresh();
  };
  // What making the weights and the batch left free would hide a part of the step.
  give_back_freed_memory();
  const double before = status_bytes("VmRSS");
  reset_peak();
  step();
  const double peak = status_bytes("VmHWM") - before;
  std::printf("%ld tokens, %ld pairs%s: a step takes %.0f MiB beyond weights and batch\n", tokens,
              plan.pairs, recompute ? ", recomputed" : "", peak / kMiB);

  Products products(config, plan);
  products.run();
  double best_step = 1e30, best_products = 1e30;
  for (int i = 0; i < rounds; ++i) {
    best_step = std::min(best_step, seconds_of(step));
    best_products = std::min(best_products, seconds_of([&] { products.run(); }));
  }
  const double flops = products.flops();
  std::printf(
      "step %.3f s (%.0f tokens/s, %.0f GFLOP/s of its products), products alone %.3f s (%.0f "
      "GFLOP/s): %.2fx\n",
      best_step, static_cast<double>(tokens) / best_step, flops / best_step / 1e9, best_products,
      flops / best_products / 1e9, best_step / best_products);
}

}  // namespace
}  // namespace aerie

int main(int argc, char** argv) {
  at::set_num_threads(1);
  aerie::set_up_memory();
  const int64_t length = argc > 4 ? std::max(64, std::atoi(argv[4])) : 512;
  const int64_t asked = argc > 1 ? std::atoi(argv[1]) : 2048;
  const int64_t tokens = std::max(length, asked / length * length);
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
  const bool recompute = argc > 3 && std::string(argv[3]) == "recompute";
  std::printf("%d threads, %s\n", aerie::num_threads(),
              aerie::cpu::isa_name(aerie::cpu::best_isa()));
  if (rounds >= 0) aerie::run(tokens, length, rounds, recompute);
}
