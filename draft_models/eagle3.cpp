// Forward of the EAGLE-3 draft (arXiv 2503.01840): u = [norm(embedding) | norm(h)], attention and
// MLP around a residual stream that starts from h before its norm.
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
  AERIE_CHECK(
      embed_.dim() == 2 && embed_.size(0) == config_.vocab && embed_.size(1) == config_.hidden,
      "the draft needs an embedding [{},{}]; the target's is [{}]: the draft was made for "
      "another target",
      config_.vocab, config_.hidden, fmt::join(embed_.sizes(), ","));
  rope_ = make_rope_table(config_.rope, config_.head_dim, config_.max_position, embed_.device());
  rope_axes_ = rope_axes(config_.rope, config_.head_dim).to(embed_.device());
}

Eagle3Draft::Eagle3Draft(DraftConfig config, const DraftParams& params, Tensor embed_weight,
                         at::ScalarType dtype)
    : Eagle3Draft(std::move(config), std::move(embed_weight)) {
  check_params(config_, params);
  compute_ = dtype;
  const auto fixed = [&](const char* name) {
    return params.at(name).detach().to(embed_.device(), dtype);
  };
  // Rounded like everything else, but kept in f32, which is what norms compute in.
  const auto norm = [&](const char* name) { return fixed(name).to(at::kFloat); };
  const auto packed = [&](const char* name) { return ops::pack_linear(fixed(name)); };
  fc_ = packed("fc.weight");
  q_ = packed("midlayer.self_attn.q_proj.weight");
  kv_ = packed("midlayer.self_attn.kv_proj.weight");
  o_ = packed("midlayer.self_attn.o_proj.weight");
  gate_up_ = packed("midlayer.mlp.gate_up_proj.weight");
  down_ = packed("midlayer.mlp.down_proj.weight");
  head_ = packed("lm_head.weight");
  input_norm_ = norm("midlayer.input_layernorm.weight");
  hidden_norm_ = norm("midlayer.hidden_norm.weight");
  post_norm_ = norm("midlayer.post_attention_layernorm.weight");
  final_norm_ = norm("norm.weight");
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
  draft.fc_.weight = params.at("fc.weight");
  draft.q_.weight = params.at("midlayer.self_attn.q_proj.weight");
  draft.kv_.weight = params.at("midlayer.self_attn.kv_proj.weight");
  draft.o_.weight = params.at("midlayer.self_attn.o_proj.weight");
  draft.gate_up_.weight = params.at("midlayer.mlp.gate_up_proj.weight");
  draft.down_.weight = params.at("midlayer.mlp.down_proj.weight");
  draft.head_.weight = params.at("lm_head.weight");
  draft.input_norm_ = params.at("midlayer.input_layernorm.weight");
  draft.hidden_norm_ = params.at("midlayer.hidden_norm.weight");
  draft.post_norm_ = params.at("midlayer.post_attention_layernorm.weight");
  draft.final_norm_ = params.at("norm.weight");
  draft.refresh();
  return draft;
}

void Eagle3Draft::refresh() {
  for (ops::LinearWeight* weight : {&fc_, &q_, &kv_, &o_, &gate_up_, &down_, &head_}) {
    if (!weight->trainable()) continue;
    const Tensor master = weight->weight;
    *weight = ops::pack_trainable(master, compute_, std::move(*weight));
  }
}

Tensor Eagle3Draft::fuse(const Tensor& captured) const { return ops::linear(captured, fc_); }

DraftStep Eagle3Draft::step(const Tensor& tokens, const Tensor& hidden, const Tensor& positions,
                            const Tensor& rows, const Attend& attend) const {
  const double eps = config_.rms_norm_eps;
  const int64_t heads = config_.heads, kv_heads = config_.kv_heads, dim = config_.head_dim;
  const auto selected = [&rows](const Tensor& all) {
    return rows.defined() ? all.index_select(0, rows) : all;
  };
  const Tensor embedded = ops::embedding(tokens, embed_);
  const Tensor u = at::cat(
      {ops::rms_norm(embedded, input_norm_, eps), ops::rms_norm(hidden, hidden_norm_, eps)}, 1);
  const auto kv = ops::linear(u, kv_).split(kv_heads * dim, 1);
  // A draft of one axis beside a target of several counts time, as the servers have it.
  const bool plain = positions.dim() == 1 || config_.rope.axes() > 1;
  const ops::RopeRows rope =
      ops::select_rope(rope_, plain ? positions : positions.select(0, 0), rope_axes_);
  const Tensor k = ops::rope(kv[0].view({-1, kv_heads, dim}), rope.positions, rope.table);
  const Tensor v = kv[1].view({-1, kv_heads, dim});
  const Tensor q = ops::rope(ops::linear(selected(u), q_).view({-1, heads, dim}),
                             selected(rope.positions), rope.table);
  const Tensor mixed = attend(q, k, v).reshape({-1, heads * dim});

  const Tensor after_attention = selected(hidden) + ops::linear(mixed, o_);
  const Tensor x = ops::rms_norm(after_attention, post_norm_, eps);
  const Tensor mlp = ops::linear(ops::swiglu(ops::linear(x, gate_up_)), down_);
  DraftStep result;
  result.hidden = after_attention + mlp;
  result.normed = ops::rms_norm(result.hidden, final_norm_, eps);
  return result;
}

Tensor Eagle3Draft::logits(const Tensor& normed) const {
  return ops::linear(normed, head_).to(at::kFloat);
}

}  // namespace aerie
