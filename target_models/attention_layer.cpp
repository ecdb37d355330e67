#include "target_models/attention_layer.h"

#include <ATen/ops/cat.h>

#include <cmath>

namespace aerie {
namespace {

void load_head_norms(AttentionLayer& layer, ParamStore& store, const ModelConfig& c,
                     const std::string& prefix, const Placement& placement) {
  if (c.qk_norm == QkNorm::kNone) return;
  const bool before = c.qk_norm == QkNorm::kBeforeRope;
  const char *q = before ? "q_norm.weight" : "query_layernorm.weight",
             *k = before ? "k_norm.weight" : "key_layernorm.weight";
  const double offset = c.gemma.on ? 1 : 0;
  layer.q_norm = load_norm(store, prefix + q, c.head_dim, placement, offset);
  layer.k_norm = load_norm(store, prefix + k, c.head_dim, placement, offset);
}

Tensor turn(const Tensor& x, const HeadAngles& angles) {
  const auto by = [&x](const ops::RopeRows& rows) {
    return ops::rope(x, rows.positions, rows.table);
  };
  const Tensor whole = by(angles.rows);
  if (!angles.second_half.positions.defined()) return whole;
  const int64_t half = x.size(2) / 2;
  return at::cat({whole.narrow(2, 0, half), by(angles.second_half).narrow(2, half, half)}, 2);
}

/// Queries [N,H,D] and keys [N,G,D] of qkv [N,H+2G,D]: normalised where the model does, turned.
std::pair<Tensor, Tensor> turned(const AttentionLayer& layer, const ModelConfig& c,
                                 const HeadAngles& angles, const Tensor& qkv) {
  const double eps = c.rms_norm_eps;
  if (c.qk_norm == QkNorm::kBeforeRope) {
    const Tensor q = ops::rms_norm(qkv.narrow(1, 0, c.heads), layer.q_norm, eps);
    const Tensor k = ops::rms_norm(qkv.narrow(1, c.heads, c.kv_heads), layer.k_norm, eps);
    return {turn(q, angles), turn(k, angles)};
  }
  // q and k lie side by side: turned by one call
  const Tensor qk = turn(qkv.narrow(1, 0, c.heads + c.kv_heads), angles);
  const Tensor q = qk.narrow(1, 0, c.heads), k = qk.narrow(1, c.heads, c.kv_heads);
  if (c.qk_norm == QkNorm::kNone) return {q, k};
  return {ops::rms_norm(q, layer.q_norm, eps), ops::rms_norm(k, layer.k_norm, eps)};
}

}  // namespace

AttentionLayer load_attention(ParamStore& store, const ModelConfig& c, int64_t index,
                              const std::string& prefix, const Placement& placement) {
  const int64_t q_rows = c.heads * c.head_dim, kv_rows = c.kv_heads * c.head_dim;
  AttentionLayer layer;
  layer.scale = c.gemma.on ? c.gemma.query_scale : 1 / std::sqrt(static_cast<double>(c.head_dim));
  if (c.gemma.on && c.gemma.sliding[index]) layer.window = c.gemma.window;
  layer.qkv = load_linear(
      store, {prefix + "q_proj.weight", prefix + "k_proj.weight", prefix + "v_proj.weight"},
      {q_rows, kv_rows, kv_rows}, c.hidden, placement);
  layer.o = load_linear(store, {prefix + "o_proj.weight"}, {c.hidden}, q_rows, placement);
  if (c.qkv_bias) {
    layer.qkv_bias = at::cat({load_tensor(store, prefix + "q_proj.bias", {q_rows}, placement),
                              load_tensor(store, prefix + "k_proj.bias", {kv_rows}, placement),
                              load_tensor(store, prefix + "v_proj.bias", {kv_rows}, placement)});
  }
  load_head_norms(layer, store, c, prefix, placement);
  return layer;
}

Tensor attend(const AttentionLayer& layer, const ModelConfig& c, int64_t index,
              const HeadAngles& angles, const Tensor& x, const ForwardInput& input) {
  const int64_t rows = x.size(0);
  Tensor qkv = ops::linear(x, layer.qkv);
  if (layer.qkv_bias.defined()) qkv.add_(layer.qkv_bias);
  qkv = qkv.view({rows, c.heads + 2 * c.kv_heads, c.head_dim});
  const auto [q, k] = turned(layer, c, angles, qkv);
  const Tensor v = qkv.narrow(1, c.heads + c.kv_heads, c.kv_heads);

  Tensor mixed;
  if (input.layout.pages.defined()) {
    ops::kv_append_(*input.kv, index, k, v, input.layout.slots);
    mixed = ops::ragged_attention(q, *input.kv, index, input.layout, layer.scale, layer.window);
  } else {
    mixed = ops::packed_attention(q, k, v, input.layout.q_start, layer.scale, layer.window);
  }
  return ops::linear(mixed.view({rows, c.heads * c.head_dim}), layer.o);
}

}  // namespace aerie
