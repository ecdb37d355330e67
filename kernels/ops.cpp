// Checks the arguments of every op for inference, then picks the kernel.
#include "kernels/ops.h"

#include "common/error.h"
#include "kernels/autograd.h"
#include "kernels/composed.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/paged_attention.h"
#include "kernels/cuda_layers.h"

namespace aerie::ops {
namespace {

std::string shape_of(const Tensor& tensor) {
  return tensor.defined() ? fmt::format("[{}]", fmt::join(tensor.sizes(), ",")) : "undefined";
}

void check_float(const char* op, const char* name, const Tensor& tensor) {
  AERIE_CHECK(tensor.defined() &&
                  (tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16),
              "{}: {} must be a bf16 or f32 tensor", op, name);
}

/// Wildcards are -1.
void check_shape(const char* op, const char* name, const Tensor& tensor, at::IntArrayRef expected) {
  bool fits = tensor.defined() && tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; fits && i < expected.size(); ++i) {
    fits = expected[i] < 0 || tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  AERIE_CHECK(fits, "{}: {} has shape {} where [{}] is needed (-1: any)", op, name,
              shape_of(tensor), fmt::join(expected, ","));
}

void check_type(const char* op, const char* name, const Tensor& tensor, at::ScalarType type) {
  AERIE_CHECK(tensor.scalar_type() == type, "{}: {} is {} and must be {}", op, name,
              c10::toString(tensor.scalar_type()), c10::toString(type));
}

void check_slots(const char* op, const char* name, const Tensor& slots, int64_t count) {
  check_shape(op, name, slots, {count});
  check_type(op, name, slots, at::kLong);
}

void check_layer(const char* op, const KvPool& pool, int64_t layer) {
  AERIE_CHECK(layer >= 0 && layer < static_cast<int64_t>(pool.k.size()),
              "{}: layer {} of a pool of {} layers", op, layer, pool.k.size());
}

void check_layout(const Tensor& q, const RaggedLayout& layout) {
  const char* op = "ragged_attention";
  AERIE_CHECK(layout.pages.defined(),
              "{}: the layout has no pages; without a cache use packed_attention", op);
  check_type(op, "layout.q_start", layout.q_start, at::kInt);
  check_type(op, "layout.kv_len", layout.kv_len, at::kInt);
  check_type(op, "layout.pages", layout.pages, at::kInt);
  const int64_t chunks = layout.kv_len.numel();
  check_shape(op, "layout.q_start", layout.q_start, {chunks + 1});
  check_shape(op, "layout.pages", layout.pages, {chunks, -1});
  AERIE_CHECK(layout.pages.size(1) * KvPool::kPageSize >= layout.max_kv,
              "{}: layout.pages has {} pages a chunk, too few for max_kv = {}", op,
              layout.pages.size(1), layout.max_kv);
  if (layout.tree.defined()) {
    check_shape(op, "layout.tree", layout.tree, {chunks, -1, -1});
    check_type(op, "layout.tree", layout.tree, at::kBool);
    AERIE_CHECK(layout.tree.size(1) >= layout.max_q && layout.tree.size(2) >= layout.max_q,
                "{}: layout.tree has shape {}, too small for max_q = {}", op, shape_of(layout.tree),
                layout.max_q);
  }
  if (q.is_cpu()) {
    AERIE_CHECK(layout.q_start.const_data_ptr<int32_t>()[chunks] == q.size(0),
                "{}: layout.q_start ends at {}, q has {} rows", op,
                layout.q_start.const_data_ptr<int32_t>()[chunks], q.size(0));
  }
}

/// Whether the bf16 kernels of the CPU own the order inside this pool's pages.
bool is_tiled(const KvPool& pool) {
  return pool.k[0].is_cpu() && pool.k[0].scalar_type() == at::kBFloat16;
}

}  // namespace

LinearWeight pack_linear(const Tensor& weight) {
  check_float("pack_linear", "weight", weight);
  check_shape("pack_linear", "weight", weight, {-1, -1});
  LinearWeight result;
  result.out_features = weight.size(0);
  result.in_features = weight.size(1);
  if (weight.is_cpu() && weight.scalar_type() == at::kBFloat16) {
    result.packed = cpu::pack(weight, aerie::cpu::Source::kNK);
  } else {
    result.weight = weight.detach().contiguous();
  }
  return result;
}

LinearWeight pack_trainable(const Tensor& master, at::ScalarType compute, LinearWeight previous) {
  check_float("pack_trainable", "master", master);
  check_shape("pack_trainable", "master", master, {-1, -1});
  AERIE_CHECK(compute == at::kFloat || compute == at::kBFloat16,
              "pack_trainable: computes in bf16 or f32, not {}", c10::toString(compute));
  previous.weight = master;
  previous.out_features = master.size(0);
  previous.in_features = master.size(1);
  if (master.is_cpu() && compute == at::kBFloat16) {
    previous.packed = cpu::pack(master, aerie::cpu::Source::kNK, previous.packed);
    previous.packed_transpose =
        cpu::pack(master, aerie::cpu::Source::kKN, previous.packed_transpose);
  }
  return previous;
}

Tensor linear(const Tensor& x, const LinearWeight& weight) {
  check_float("linear", "x", x);
  check_shape("linear", "x", x, {-1, weight.in_features});
  const bool records = wants_grad(x) || (at::GradMode::is_enabled() && weight.trainable());
  if (records && weight.packed_transpose.defined() && autograd::supported(x)) {
    return autograd::linear(x, weight);
  }
  if (weight.packed.defined() && !records) {
    check_type("linear", "x (of a weight packed in bf16)", x, at::kBFloat16);
    return cpu::linear(x, weight.packed, weight.out_features);
  }
  return composed::linear(x, weight.trainable() ? weight.weight : composed::dense(weight));
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check_float("rms_norm", "x", x);
  AERIE_CHECK(x.dim() >= 1, "rms_norm: x has no dimension");
  check_shape("rms_norm", "weight", weight, {x.size(-1)});
  if (x.is_cuda()) return cuda::rms_norm(x, weight, eps);
  if (wants_grad(x, weight) && autograd::supported(x) && weight.scalar_type() == at::kFloat) {
    return autograd::rms_norm(x, weight, eps);
  }
  if (x.is_cpu() && !wants_grad(x, weight)) return cpu::rms_norm(x, weight, eps);
  return composed::rms_norm(x, weight, eps);
}

Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps) {
  check_float("add_rms_norm_", "residual", residual);
  check_shape("add_rms_norm_", "residual", residual, {-1, -1});
  check_shape("add_rms_norm_", "x", x, residual.sizes());
  check_type("add_rms_norm_", "x", x, residual.scalar_type());
  check_shape("add_rms_norm_", "weight", weight, {x.size(1)});
  if (x.is_cuda()) return cuda_ops().add_rms_norm_(residual, x, weight, eps);
  if (x.is_cpu() && residual.is_contiguous()) return cpu::add_rms_norm_(residual, x, weight, eps);
  return composed::add_rms_norm_(residual, x, weight, eps);
}

Tensor swiglu(const Tensor& gate_up) {
  check_float("swiglu", "gate_up", gate_up);
  check_shape("swiglu", "gate_up", gate_up, {-1, -1});
  AERIE_CHECK(gate_up.size(1) % 2 == 0,
              "swiglu: gate_up has shape {}; its columns are [gate | up], so an even number",
              shape_of(gate_up));
  if (gate_up.is_cuda()) return cuda::swiglu(gate_up);
  if (wants_grad(gate_up) && autograd::supported(gate_up)) return autograd::swiglu(gate_up);
  if (gate_up.is_cpu() && !wants_grad(gate_up)) return cpu::swiglu(gate_up);
  return composed::swiglu(gate_up);
}

Tensor geglu(const Tensor& gate_up) {
  check_float("geglu", "gate_up", gate_up);
  check_shape("geglu", "gate_up", gate_up, {-1, -1});
  AERIE_CHECK(gate_up.size(1) % 2 == 0,
              "geglu: gate_up has shape {}; its columns are [gate | up], so an even number",
              shape_of(gate_up));
  return composed::geglu(gate_up);
}

Tensor mixture(const Tensor& x, const Tensor& chosen, const Tensor& weights,
               const std::vector<Expert>& experts) {
  check_float("mixture", "x", x);
  check_shape("mixture", "x", x, {-1, -1});
  check_shape("mixture", "chosen", chosen, {x.size(0), -1});
  check_type("mixture", "chosen", chosen, at::kLong);
  check_shape("mixture", "weights", weights, chosen.sizes());
  check_type("mixture", "weights", weights, at::kFloat);
  const auto count = static_cast<int64_t>(experts.size());
  AERIE_CHECK(count > 0, "mixture: there are no experts");
  if (chosen.is_cpu() && chosen.numel() > 0) {
    const int64_t low = chosen.min().item<int64_t>(), high = chosen.max().item<int64_t>();
    AERIE_CHECK(low >= 0 && high < count, "mixture: experts {} to {} are chosen of {}", low, high,
                count);
  }
  const bool packed = experts[0].gate_up.packed.defined();
  if (packed) check_type("mixture", "x (of weights packed in bf16)", x, at::kBFloat16);
  return packed ? cpu::mixture(x, chosen, weights, experts)
                : composed::mixture(x, chosen, weights, experts);
}

Tensor embedding(const Tensor& tokens, const Tensor& weight) {
  check_shape("embedding", "tokens", tokens, {-1});
  check_type("embedding", "tokens", tokens, at::kLong);
  check_shape("embedding", "weight", weight, {-1, -1});
  return weight.detach().index_select(0, tokens);
}

RopeTable make_rope_table(const Tensor& inverse_frequencies, int64_t max_position,
                          double attention_scaling) {
  check_shape("make_rope_table", "inverse_frequencies", inverse_frequencies, {-1});
  const Tensor frequencies = inverse_frequencies.to(at::kFloat);
  const Tensor angles = at::arange(max_position, frequencies.options()).unsqueeze(1) * frequencies;
  return {.cos = angles.cos() * attention_scaling, .sin = angles.sin() * attention_scaling};
}

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  check_float("rope", "x", x);
  check_shape("rope", "x", x, {-1, -1, -1});
  check_shape("rope", "positions", positions, {x.size(0)});
  check_type("rope", "positions", positions, at::kLong);
  check_shape("rope", "table.cos", table.cos, {-1, x.size(2) / 2});
  check_shape("rope", "table.sin", table.sin, table.cos.sizes());
  if (x.is_cuda()) return cuda::rope(x, positions, table);
  if (wants_grad(x) && autograd::supported(x)) return autograd::rope(x, positions, table);
  if (x.is_cpu() && !wants_grad(x)) return cpu::rope(x, positions, table);
  return composed::rope(x, positions, table);
}

RopeRows select_rope(const RopeTable& table, const Tensor& positions, const Tensor& axis_of) {
  check_type("select_rope", "positions", positions, at::kLong);
  if (positions.dim() == 1) return {table, positions};
  check_shape("select_rope", "positions", positions, {-1, -1});
  check_shape("select_rope", "axis_of", axis_of, {table.cos.size(1)});
  const Tensor rows = positions.index_select(0, axis_of).t().contiguous();  // [N,D/2]
  return {{table.cos.gather(0, rows), table.sin.gather(0, rows)},
          at::arange(positions.size(1), positions.options())};
}

KvPool make_kv_pool(int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_dim,
                    at::ScalarType dtype, at::Device device) {
  AERIE_CHECK(layers > 0 && pages > 0 && kv_heads > 0 && head_dim > 0,
              "make_kv_pool: {} layers, {} pages, {} heads of size {}: all must be positive",
              layers, pages, kv_heads, head_dim);
  AERIE_CHECK(dtype == at::kFloat || dtype == at::kBFloat16,
              "make_kv_pool: the cache is bf16 or f32, not {}", c10::toString(dtype));
  KvPool pool{.k = {}, .v = {}, .pages = pages, .kv_heads = kv_heads, .head_dim = head_dim};
  const auto options = at::TensorOptions().dtype(dtype).device(device);
  const bool tiled = device.is_cpu() && dtype == at::kBFloat16;
  const int64_t width = tiled ? aerie::cpu::padded_head(head_dim) : head_dim;
  for (int64_t layer = 0; layer < layers; ++layer) {
    pool.k.push_back(at::zeros({pages, kv_heads, KvPool::kPageSize * width}, options));
    pool.v.push_back(at::zeros({pages, kv_heads, KvPool::kPageSize * width}, options));
  }
  return pool;
}

void kv_append_(KvPool& pool, int64_t layer, const Tensor& k, const Tensor& v,
                const Tensor& slots) {
  check_layer("kv_append_", pool, layer);
  check_shape("kv_append_", "k", k, {-1, pool.kv_heads, pool.head_dim});
  check_shape("kv_append_", "v", v, k.sizes());
  check_slots("kv_append_", "slots", slots, k.size(0));
  if (k.is_cuda()) return cuda_ops().kv_append_(pool, layer, k, v, slots);
  if (is_tiled(pool)) return cpu::kv_append_(pool, layer, k, v, slots);
  composed::kv_append_(pool, layer, k, v, slots);
}

void kv_move_(KvPool& pool, const Tensor& from_slots, const Tensor& to_slots) {
  check_slots("kv_move_", "from_slots", from_slots, -1);
  check_slots("kv_move_", "to_slots", to_slots, from_slots.numel());
  if (pool.k[0].is_cuda()) return cuda_ops().kv_move_(pool, from_slots, to_slots);
  if (is_tiled(pool)) return cpu::kv_move_(pool, from_slots, to_slots);
  composed::kv_move_(pool, from_slots, to_slots);
}

Tensor ragged_attention(const Tensor& q, const KvPool& pool, int64_t layer,
                        const RaggedLayout& layout, double scale, int64_t window) {
  check_layer("ragged_attention", pool, layer);
  check_float("ragged_attention", "q", q);
  check_shape("ragged_attention", "q", q, {-1, -1, pool.head_dim});
  AERIE_CHECK(q.size(1) % pool.kv_heads == 0, "ragged_attention: {} query heads over {} KV heads",
              q.size(1), pool.kv_heads);
  check_layout(q, layout);
  check_type("ragged_attention", "q", q, pool.k[layer].scalar_type());
  AERIE_CHECK(window >= 0, "ragged_attention: a window of {} tokens", window);
  AERIE_CHECK(scale > 0, "ragged_attention: scale {} must be above 0", scale);
  if (window >= layout.max_kv) window = 0;  // nothing has left it yet
  if (is_tiled(pool)) {
    return cpu::ragged_attention(q, pool, layer, layout, scale, aerie::cpu::best_isa(), window);
  }
  // The composition counts a row's place in the window from the rows before it, branches included.
  AERIE_CHECK(window == 0 || !layout.tree.defined() || layout.max_q <= window,
              "ragged_attention: a tree of {} rows in a window of {} tokens; verify fewer guesses",
              layout.max_q, window);
  if (q.is_cuda() && window == 0) {
    return cuda_ops().ragged_attention(q, pool, layer, layout, scale);
  }
  return composed::ragged_attention(q, pool, layer, layout, scale, window);
}

Tensor segment_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts,
                         double scale) {
  check_float("segment_attention", "q", q);
  check_shape("segment_attention", "q", q, {-1, -1, -1});
  check_shape("segment_attention", "k", k, q.sizes());
  check_shape("segment_attention", "v", v, q.sizes());
  check_shape("segment_attention", "starts", starts, {-1});
  check_type("segment_attention", "starts", starts, at::kInt);
  AERIE_CHECK(starts.is_cpu() && starts.numel() > 0 &&
                  starts.const_data_ptr<int32_t>()[starts.numel() - 1] == q.size(0),
              "segment_attention: starts must be on the CPU and end at the {} rows of q",
              q.size(0));
  return composed::segment_attention(q, k, v, starts, scale);
}

}  // namespace aerie::ops
