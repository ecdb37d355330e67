// Forward of the EAGLE-3 draft (arXiv 2503.01840): u = [norm(embedding) | norm(h)], attention and
// MLP around a residual stream that starts from h before its norm. Variants as vLLM reads them.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include <cmath>

#include "common/error.h"
#include "draft_models/draft.h"
#include "target_models/rope.h"

namespace aerie {
namespace {

void check_params(const DraftConfig& config, const DraftParams& params) {
  for (const auto& [name, shape] : draft_param_shapes(config)) {
    const Tensor& tensor = params.at(name);
    AERIE_CHECK(tensor.sizes() == at::IntArrayRef(shape),
                "draft tensor \"{}\" has shape [{}] where its config implies [{}]", name,
                fmt::join(tensor.sizes(), ","), fmt::join(shape, ","));
  }
}

}  // namespace

Eagle3Draft::Eagle3Draft(DraftConfig config, Tensor embed_weight)
    : config_(std::move(config)), embed_(std::move(embed_weight)) {
  const int64_t rows = config_.vocab + config_.text_vocab;
  AERIE_CHECK(embed_.dim() == 2 && embed_.size(0) == rows && embed_.size(1) == config_.hidden,
              "the draft needs an embedding [{},{}]; the target's is [{}]: the draft was made for "
              "another target",
              rows, config_.hidden, fmt::join(embed_.sizes(), ","));
  rope_ = make_rope_table(config_.rope, config_.head_dim, config_.max_position, embed_.device());
  rope_axes_ = rope_axes(config_.rope, config_.head_dim).to(embed_.device());
}

void Eagle3Draft::read(const Reader& reader) {
  fc_ = reader.matrix("fc.weight");
  head_ = reader.matrix("lm_head.weight");
  hidden_norm_ = reader.vector("midlayer.hidden_norm.weight");
  final_norm_ = reader.vector("norm.weight");
  for (size_t i = 0; config_.fc_norm && i < config_.capture_layers.size(); ++i) {
    fc_norms_.push_back(reader.vector(fmt::format("fc_norm.{}.weight", i)));
  }
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string layer = layer_prefix(i), attn = layer + "self_attn.", mlp = layer + "mlp.";
    Layer& weights = layers_.emplace_back();
    weights.q = reader.matrix(attn + "q_proj.weight");
    weights.kv = reader.matrix(attn + "kv_proj.weight");
    weights.o = reader.matrix(attn + "o_proj.weight");
    weights.gate_up = reader.matrix(mlp + "gate_up_proj.weight");
    weights.down = reader.matrix(mlp + "down_proj.weight");
    weights.input_norm = reader.vector(layer + "input_layernorm.weight");
    weights.post_norm = reader.vector(layer + "post_attention_layernorm.weight");
    if (!config_.qk_norm) continue;
    weights.q_norm = reader.vector(attn + "q_norm.weight");
    weights.k_norm = reader.vector(attn + "k_norm.weight");
  }
}

Eagle3Draft::Eagle3Draft(DraftConfig config, const DraftParams& params, Tensor embed_weight,
                         at::ScalarType dtype)
    : Eagle3Draft(std::move(config), std::move(embed_weight)) {
  check_params(config_, params);
  compute_ = dtype;
  const auto fixed = [&](const std::string& name) {
    return params.at(name).detach().to(embed_.device(), dtype);
  };
  // Norms are rounded like everything else, but kept in f32, which is what they compute in.
  read({[&](const std::string& name) { return ops::pack_linear(fixed(name)); },
        [&](const std::string& name) { return fixed(name).to(at::kFloat); }});
}

Eagle3Draft Eagle3Draft::trainable(DraftConfig config, const DraftParams& params,
                                   Tensor embed_weight, at::ScalarType compute) {
  check_params(config, params);
  for (const auto& [name, master] : params.tensors) {
    AERIE_CHECK(master.scalar_type() == at::kFloat && master.requires_grad() && master.is_leaf(),
                "draft tensor \"{}\" is no f32 leaf that requires a gradient: it cannot be trained",
                name);
  }
  Eagle3Draft draft(std::move(config), std::move(embed_weight));
  draft.compute_ = compute;
  draft.read({[&](const std::string& name) {
                ops::LinearWeight weight;
                weight.weight = params.at(name);
                return weight;
              },
              [&](const std::string& name) { return params.at(name); }});
  draft.refresh();
  return draft;
}

void Eagle3Draft::refresh() {
  const auto pack = [this](ops::LinearWeight& weight) {
    if (!weight.trainable()) return;
    const Tensor master = weight.weight;
    weight = ops::pack_trainable(master, compute_, std::move(weight));
  };
  pack(fc_);
  pack(head_);
  for (Layer& layer : layers_) {
    for (auto* weight : {&layer.q, &layer.kv, &layer.o, &layer.gate_up, &layer.down}) pack(*weight);
  }
}

Tensor Eagle3Draft::fuse(const Tensor& captured) const {
  if (fc_norms_.empty()) return ops::linear(captured, fc_);
  std::vector<Tensor> parts = captured.split(config_.target_hidden, 1);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i] = ops::rms_norm(parts[i], fc_norms_[i], config_.rms_norm_eps);
  }
  return ops::linear(at::cat(parts, 1), fc_);
}

Tensor Eagle3Draft::run_layer(const Layer& layer, const Tensor& u, const Tensor& residual,
                              const Tensor& positions, const Tensor& rows,
                              const Attend& attend) const {
  const double eps = config_.rms_norm_eps;
  const int64_t heads = config_.heads, kv_heads = config_.kv_heads, dim = config_.head_dim;
  const auto selected = [&rows](const Tensor& all) {
    return rows.defined() ? all.index_select(0, rows) : all;
  };
  const auto normed = [eps](const Tensor& x, const Tensor& norm) {
    return norm.defined() ? ops::rms_norm(x, norm, eps) : x;
  };
  const auto kv = ops::linear(u, layer.kv).split(kv_heads * dim, 1);
  // A draft of one axis beside a target of several counts time, as the servers have it.
  const bool plain = positions.dim() == 1 || config_.rope.axes() > 1;
  const ops::RopeRows rope =
      ops::select_rope(rope_, plain ? positions : positions.select(0, 0), rope_axes_);
  const Tensor k =
      ops::rope(normed(kv[0].view({-1, kv_heads, dim}), layer.k_norm), rope.positions, rope.table);
  const Tensor v = kv[1].view({-1, kv_heads, dim});
  const Tensor queries = ops::linear(selected(u), layer.q).view({-1, heads, dim});
  const Tensor q = ops::rope(normed(queries, layer.q_norm), selected(rope.positions), rope.table);
  const Tensor mixed = attend(q, k, v).reshape({-1, heads * dim});

  const Tensor after_attention = selected(residual) + ops::linear(mixed, layer.o);
  const Tensor x = ops::rms_norm(after_attention, layer.post_norm, eps);
  const Tensor mlp = ops::linear(ops::swiglu(ops::linear(x, layer.gate_up)), layer.down);
  return after_attention + mlp;
}

Tensor Eagle3Draft::embed(const Tensor& tokens, const InputEmbeds& embeds) const {
  if (embeds.values.defined() && !embeds.rows.defined()) return embeds.values;
  Tensor rows = ops::embedding(tokens, embed_);
  if (!embeds.values.defined()) return rows;
  return rows.index_copy_(0, embeds.rows, embeds.values.to(rows.scalar_type()));
}

DraftStep Eagle3Draft::step(const Tensor& tokens, const Tensor& hidden, const Tensor& positions,
                            const Tensor& rows, const Attend& attend,
                            const InputEmbeds& embeds) const {
  const double eps = config_.rms_norm_eps;
  const Tensor embedded = embed(tokens, embeds);
  const Tensor features = ops::rms_norm(hidden, hidden_norm_, eps);
  Tensor u = at::cat({ops::rms_norm(embedded, layers_[0].input_norm, eps), features}, 1);
  Tensor stream = config_.norm_before_residual ? features : hidden;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool last = i + 1 == layers_.size();
    if (i > 0) u = ops::rms_norm(stream, layers_[i].input_norm, eps);
    stream = run_layer(layers_[i], u, stream, positions, last ? rows : Tensor(), attend);
  }
  DraftStep result;
  result.normed = ops::rms_norm(stream, final_norm_, eps);
  result.hidden = config_.norm_output ? result.normed : stream;
  return result;
}

Tensor Eagle3Draft::logits(const Tensor& normed) const {
  return ops::linear(normed, head_).to(at::kFloat);
}

}  // namespace aerie
