#include "target_models/trainable.h"

#include <ATen/ops/where.h>

#include <cmath>

#include "common/error.h"
#include "target_models/params.h"
#include "target_models/rope.h"
#include "target_models/trained_files.h"

namespace aerie {

TrainableTarget::TrainableTarget(const std::filesystem::path& directory, const Weights& masters,
                                 at::ScalarType compute)
    : config_(trainable_config(directory)),
      compute_(compute),
      rope_(make_rope_table(config_.rope, config_.head_dim, config_.max_position, at::kCPU)),
      mask_(masters("mask_embedding")),
      final_norm_(masters("model.norm.weight")) {
  const Vocabulary vocabulary = read_vocabulary(directory, config_);
  embed_ = vocabulary.embed.to(compute);
  head_ = ops::pack_trainable(vocabulary.head.to(compute), compute);
  const auto matrix = [&](const std::string& name) {
    ops::LinearWeight weight;
    weight.weight = masters(name);
    return weight;
  };
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i), attention = layer + "self_attn.";
    Layer& weights = layers_.emplace_back();
    weights.qkv = matrix(attention + "qkv_proj.weight");
    weights.o = matrix(attention + "o_proj.weight");
    weights.gate_up = matrix(layer + "mlp.gate_up_proj.weight");
    weights.down = matrix(layer + "mlp.down_proj.weight");
    weights.input_norm = masters(layer + "input_layernorm.weight");
    weights.post_norm = masters(layer + "post_attention_layernorm.weight");
    if (config_.qkv_bias) weights.qkv_bias = masters(attention + "qkv_proj.bias");
    if (config_.qk_norm == QkNorm::kNone) continue;
    weights.q_norm = masters(attention + "q_norm.weight");
    weights.k_norm = masters(attention + "k_norm.weight");
  }
  refresh();
}

void TrainableTarget::refresh() {
  for (Layer& layer : layers_) {
    for (auto* weight : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
      const Tensor master = weight->weight;
      *weight = ops::pack_trainable(master, compute_, std::move(*weight));
    }
  }
}

Tensor TrainableTarget::attention(const Layer& layer, const Tensor& x, const Tensor& positions,
                                  const Attend& attend) const {
  const ModelConfig& c = config_;
  Tensor qkv = ops::linear(x, layer.qkv);
  if (layer.qkv_bias.defined()) qkv = qkv + layer.qkv_bias.to(qkv.scalar_type());
  qkv = qkv.view({-1, c.heads + 2 * c.kv_heads, c.head_dim});
  const auto turned = [&](int64_t begin, int64_t heads, const Tensor& norm) {
    const Tensor part = qkv.narrow(1, begin, heads);
    const Tensor normed = norm.defined() ? ops::rms_norm(part, norm, c.rms_norm_eps) : part;
    return ops::rope(normed, positions, rope_);
  };
  const Tensor q = turned(0, c.heads, layer.q_norm), k = turned(c.heads, c.kv_heads, layer.k_norm);
  const Tensor v = qkv.narrow(1, c.heads + c.kv_heads, c.kv_heads);
  return ops::linear(attend(q, k, v).reshape({-1, c.heads * c.head_dim}), layer.o);
}

Tensor TrainableTarget::hidden(const Tensor& tokens, const Tensor& positions, const Tensor& masked,
                               const Attend& attend) const {
  const double eps = config_.rms_norm_eps;
  Tensor x = at::where(masked.unsqueeze(1), mask_.to(compute_), ops::embedding(tokens, embed_));
  for (const Layer& layer : layers_) {
    x = x + attention(layer, ops::rms_norm(x, layer.input_norm, eps), positions, attend);
    const Tensor y = ops::rms_norm(x, layer.post_norm, eps);
    x = x + ops::linear(ops::swiglu(ops::linear(y, layer.gate_up)), layer.down);
  }
  return ops::rms_norm(x, final_norm_, eps);
}

}  // namespace aerie
