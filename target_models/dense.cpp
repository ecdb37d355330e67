#include "target_models/dense.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cmath>

#include "common/error.h"
#include "target_models/rope.h"

namespace aerie {
namespace {

struct DenseLayer {
  Tensor input_norm, post_norm;     // [C]
  Tensor q_norm, k_norm;            // [D], Qwen3
  Tensor qkv_bias;                  // [(H+2G)*D], Qwen2
  ops::LinearWeight qkv, o;         // [(H+2G)*D, C], [C, H*D]
  ops::LinearWeight gate_up, down;  // [2*I, C], [C, I]
};

DenseLayer load_layer(ParamStore& store, const ModelConfig& c, int64_t index,
                      const Placement& placement) {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const std::string attn = prefix + "self_attn.", mlp = prefix + "mlp.";
  const int64_t q_rows = c.heads * c.head_dim, kv_rows = c.kv_heads * c.head_dim;
  DenseLayer layer;
  layer.input_norm = load_norm(store, prefix + "input_layernorm.weight", c.hidden, placement);
  layer.post_norm =
      load_norm(store, prefix + "post_attention_layernorm.weight", c.hidden, placement);
  layer.qkv =
      load_linear(store, {attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"},
                  {q_rows, kv_rows, kv_rows}, c.hidden, placement);
  layer.o = load_linear(store, {attn + "o_proj.weight"}, {c.hidden}, q_rows, placement);
  layer.gate_up = load_linear(store, {mlp + "gate_proj.weight", mlp + "up_proj.weight"},
                              {c.intermediate, c.intermediate}, c.hidden, placement);
  layer.down =
      load_linear(store, {mlp + "down_proj.weight"}, {c.hidden}, c.intermediate, placement);
  if (c.qkv_bias) {
    layer.qkv_bias = at::cat({load_tensor(store, attn + "q_proj.bias", {q_rows}, placement),
                              load_tensor(store, attn + "k_proj.bias", {kv_rows}, placement),
                              load_tensor(store, attn + "v_proj.bias", {kv_rows}, placement)});
  }
  if (c.qk_norm) {
    layer.q_norm = load_norm(store, attn + "q_norm.weight", c.head_dim, placement);
    layer.k_norm = load_norm(store, attn + "k_norm.weight", c.head_dim, placement);
  }
  return layer;
}

/// Views that stay on the file: they cost no memory until somebody reads them.
LastLayer view_last_layer(ParamStore& store, const ModelConfig& c) {
  const std::string prefix = fmt::format("model.layers.{}.", c.layers - 1);
  const int64_t q_rows = c.heads * c.head_dim, kv_rows = c.kv_heads * c.head_dim;
  const auto view = [&](const char* name, at::IntArrayRef shape) {
    return store.take(prefix + name, shape);
  };
  LastLayer last;
  last.input_norm = view("input_layernorm.weight", {c.hidden});
  last.post_norm = view("post_attention_layernorm.weight", {c.hidden});
  last.q = view("self_attn.q_proj.weight", {q_rows, c.hidden});
  last.k = view("self_attn.k_proj.weight", {kv_rows, c.hidden});
  last.v = view("self_attn.v_proj.weight", {kv_rows, c.hidden});
  last.o = view("self_attn.o_proj.weight", {c.hidden, q_rows});
  last.gate = view("mlp.gate_proj.weight", {c.intermediate, c.hidden});
  last.up = view("mlp.up_proj.weight", {c.intermediate, c.hidden});
  last.down = view("mlp.down_proj.weight", {c.hidden, c.intermediate});
  last.final_norm = store.take("model.norm.weight", {c.hidden});
  last.qk_norm = c.qk_norm;
  if (c.qk_norm) {
    last.q_norm = view("self_attn.q_norm.weight", {c.head_dim});
    last.k_norm = view("self_attn.k_norm.weight", {c.head_dim});
  }
  return last;
}

class DenseModel final : public TargetModel {
 public:
  DenseModel(ModelConfig config, ParamStore store, const Placement& placement);

  ForwardOutput forward(const ForwardInput& input) const override;
  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return embed_; }
  const ops::LinearWeight& head() const override { return head_; }
  Tensor head_rows(const Tensor& ids) const override;
  std::optional<LastLayer> last_layer() const override { return last_; }
  at::ScalarType dtype() const override { return placement_.dtype; }
  at::Device device() const override { return placement_.device; }

 private:
  void load_vocabulary(ParamStore& store);
  void check(const ForwardInput& input) const;
  Tensor attention(int64_t index, const Tensor& x, const ForwardInput& input) const;

  ModelConfig config_;
  Placement placement_;
  double scale_;
  ops::RopeTable rope_;
  std::vector<DenseLayer> layers_;
  Tensor final_norm_;       // [C]
  Tensor embed_;            // [V,C], a view on the file where its type fits
  Tensor head_view_;        // [V,C], a view on the file, for head_rows
  ops::LinearWeight head_;  // [V,C] packed
  LastLayer last_;          // views on the file
};

DenseModel::DenseModel(ModelConfig config, ParamStore store, const Placement& placement)
    : config_(std::move(config)),
      placement_(placement),
      scale_(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
      rope_(
          make_rope_table(config_.rope, config_.head_dim, config_.max_position, placement.device)) {
  for (int64_t i = 0; i < config_.layers; ++i) {
    layers_.push_back(load_layer(store, config_, i, placement));
  }
  final_norm_ = load_norm(store, "model.norm.weight", config_.hidden, placement);
  load_vocabulary(store);
  last_ = view_last_layer(store, config_);
  store.finish([this](const std::string& name) {
    return name.ends_with("rotary_emb.inv_freq") || (config_.tied_head && name == "lm_head.weight");
  });
}

void DenseModel::load_vocabulary(ParamStore& store) {
  const std::string embed = "model.embed_tokens.weight";
  const std::string head = config_.tied_head ? embed : "lm_head.weight";
  embed_ =
      store.take(embed, {config_.vocab, config_.hidden}).to(placement_.device, placement_.dtype);
  head_view_ = store.take(head, {config_.vocab, config_.hidden});
  head_ = ops::pack_linear(config_.tied_head ? embed_
                                             : head_view_.to(placement_.device, placement_.dtype));
  store.drop(embed);
  if (!config_.tied_head) store.drop(head);
}

Tensor DenseModel::head_rows(const Tensor& ids) const {
  return head_view_.index_select(0, ids.to(head_view_.device()))
      .to(placement_.device, placement_.dtype);
}

void DenseModel::check(const ForwardInput& input) const {
  AERIE_CHECK(input.positions.dim() == 1 && input.positions.numel() == input.tokens.numel(),
              "forward: positions must be [N], one for each of the {} tokens",
              input.tokens.numel());
  AERIE_CHECK(!input.layout.pages.defined() || input.kv != nullptr,
              "forward: the layout has pages, but no cache (kv) was given");
  const auto& capture = input.capture_layers;
  for (size_t i = 0; i < capture.size(); ++i) {
    AERIE_CHECK(capture[i] > (i == 0 ? -1 : capture[i - 1]) && capture[i] < config_.layers,
                "capture_layers [{}] must be ascending and below {}, the model's number of layers",
                fmt::join(capture, ","), config_.layers);
  }
  if (!input.positions.is_cpu()) return;
  const int64_t* position = input.positions.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < input.positions.numel(); ++i) {
    AERIE_CHECK(position[i] >= 0 && position[i] < config_.max_position,
                "position {} is outside the model's context of {} tokens "
                "(max_position_embeddings): shorten the text",
                position[i], config_.max_position);
  }
}

/// x [N,C] normalised -> attention output [N,C]
Tensor DenseModel::attention(int64_t index, const Tensor& x, const ForwardInput& input) const {
  const DenseLayer& layer = layers_[index];
  const int64_t rows = x.size(0), heads = config_.heads, kv_heads = config_.kv_heads;
  const double eps = config_.rms_norm_eps;
  Tensor qkv = ops::linear(x, layer.qkv);
  if (layer.qkv_bias.defined()) qkv.add_(layer.qkv_bias);
  qkv = qkv.view({rows, heads + 2 * kv_heads, config_.head_dim});

  Tensor q, k;
  if (config_.qk_norm) {
    const Tensor q_heads = qkv.narrow(1, 0, heads), k_heads = qkv.narrow(1, heads, kv_heads);
    q = ops::rope(ops::rms_norm(q_heads, layer.q_norm, eps), input.positions, rope_);
    k = ops::rope(ops::rms_norm(k_heads, layer.k_norm, eps), input.positions, rope_);
  } else {  // q and k lie side by side: rotated by one call
    const Tensor qk = ops::rope(qkv.narrow(1, 0, heads + kv_heads), input.positions, rope_);
    q = qk.narrow(1, 0, heads);
    k = qk.narrow(1, heads, kv_heads);
  }
  const Tensor v = qkv.narrow(1, heads + kv_heads, kv_heads);

  Tensor mixed;
  if (input.layout.pages.defined()) {
    ops::kv_append_(*input.kv, index, k, v, input.layout.slots);
    mixed = ops::ragged_attention(q, *input.kv, index, input.layout, scale_);
  } else {
    mixed = ops::packed_attention(q, k, v, input.layout.q_start, scale_);
  }
  return ops::linear(mixed.view({rows, heads * config_.head_dim}), layer.o);
}

ForwardOutput DenseModel::forward(const ForwardInput& input) const {
  const at::NoGradGuard no_grad;
  check(input);
  const double eps = config_.rms_norm_eps;
  const auto& capture = input.capture_layers;
  ForwardOutput out;
  // A fresh tensor: the residual stream is summed in place.
  Tensor residual =
      input.embeds.defined() ? input.embeds.clone() : ops::embedding(input.tokens, embed_);
  if (!capture.empty()) {
    const int64_t width = static_cast<int64_t>(capture.size()) * config_.hidden;
    out.captured = at::empty({residual.size(0), width}, residual.options());
  }
  Tensor x = ops::rms_norm(residual, layers_[0].input_norm, eps);
  size_t captured = 0;
  for (int64_t i = 0; i < config_.layers; ++i) {
    const DenseLayer& layer = layers_[i];
    x = ops::add_rms_norm_(residual, attention(i, x, input), layer.post_norm, eps);
    const Tensor mlp = ops::linear(ops::swiglu(ops::linear(x, layer.gate_up)), layer.down);
    const Tensor& next_norm = i + 1 < config_.layers ? layers_[i + 1].input_norm : final_norm_;
    x = ops::add_rms_norm_(residual, mlp, next_norm, eps);
    if (captured < capture.size() && capture[captured] == i) {
      const int64_t column = static_cast<int64_t>(captured++) * config_.hidden;
      out.captured.narrow(1, column, config_.hidden).copy_(residual);
    }
  }
  out.hidden = x;
  if (input.logit_rows.defined()) {
    out.logits = ops::linear(x.index_select(0, input.logit_rows), head_).to(at::kFloat);
  }
  return out;
}

}  // namespace

std::unique_ptr<TargetModel> make_dense(ModelConfig config, ParamStore store, at::Device device,
                                        at::ScalarType dtype) {
  return std::make_unique<DenseModel>(std::move(config), std::move(store),
                                      Placement{device, dtype});
}

}  // namespace aerie
