#include "target_models/audio_tower.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "target_models/hf_json.h"

namespace aerie {
namespace {

constexpr int64_t kKernelRows = 3;      // of both convolutions
constexpr double kLayerNormEps = 1e-5;  // PyTorch's default, which the class does not change

/// x [N,I] -> [M,3*I]: rows around each `stride`-th row, zeros beyond the ends.
Tensor neighbours(const Tensor& x, int64_t stride) {
  const Tensor padded = at::constant_pad_nd(x, {0, 0, 1, 1});
  const int64_t last = x.size(0) - 1;
  std::vector<Tensor> columns;
  for (int64_t k = 0; k < kKernelRows; ++k)
    columns.push_back(padded.slice(0, k, k + last + 1, stride));
  return at::cat(columns, 1);
}

}  // namespace

AudioTowerConfig read_audio_tower(const HfJson& file, int64_t out) {
  const std::string act = file.find<std::string>("activation_function").value_or("gelu");
  AERIE_CHECK(act == "gelu",
              "{}: \"activation_function\" is \"{}\", and only \"gelu\" is supported", file.where(),
              act);
  AudioTowerConfig config;
  config.mels = file.require_size("num_mel_bins");
  config.layers = file.require_size("encoder_layers");
  config.heads = file.require_size("encoder_attention_heads");
  config.inner = file.require_size("encoder_ffn_dim");
  config.hidden = file.require_size("d_model");
  config.positions = file.require_size("max_source_positions");
  config.out = out;
  AERIE_CHECK(config.hidden % config.heads == 0,
              "{}: \"d_model\" {} is no multiple of \"encoder_attention_heads\" {}", file.where(),
              config.hidden, config.heads);
  return config;
}

Tensor AudioTower::Linear::operator()(const Tensor& x) const {
  Tensor y = ops::linear(x, weight);
  return bias.defined() ? y.add_(bias) : y;
}

AudioTower::AudioTower(const AudioTowerConfig& config, ParamStore& store,
                       const Placement& placement)
    : config_(config), placement_(placement) {
  const std::string tower = "audio_tower.";
  conv1_ = load_convolution(store, tower + "conv1.", config_.mels);
  conv2_ = load_convolution(store, tower + "conv2.", config_.hidden);
  positions_ = load_tensor(store, tower + "embed_positions.weight",
                           {config_.positions, config_.hidden}, placement_);
  for (int64_t i = 0; i < config_.layers; ++i) layers_.push_back(load_layer(store, i));
  final_norm_ = load_norm(store, tower + "layer_norm.");
  projector_ = load_biased(store, "multi_modal_projector.linear.", config_.out, config_.hidden);
}

AudioTower::Norm AudioTower::load_norm(ParamStore& store, const std::string& name) const {
  return {load_tensor(store, name + "weight", {config_.hidden}, placement_),
          load_tensor(store, name + "bias", {config_.hidden}, placement_)};
}

AudioTower::Linear AudioTower::load_biased(ParamStore& store, const std::string& name, int64_t rows,
                                           int64_t columns) const {
  return {load_linear(store, {name + "weight"}, {rows}, columns, placement_),
          load_tensor(store, name + "bias", {rows}, placement_)};
}

/// [d, channels, 3] -> [d, 3*channels]: a product with neighbouring rows side by side.
AudioTower::Linear AudioTower::load_convolution(ParamStore& store, const std::string& name,
                                                int64_t channels) const {
  const Tensor weight =
      load_tensor(store, name + "weight", {config_.hidden, channels, kKernelRows}, placement_);
  return {
      ops::pack_linear(weight.transpose(1, 2).reshape({config_.hidden, kKernelRows * channels})),
      load_tensor(store, name + "bias", {config_.hidden}, placement_)};
}

AudioTower::Layer AudioTower::load_layer(ParamStore& store, int64_t index) const {
  const std::string prefix = fmt::format("audio_tower.layers.{}.", index);
  const std::string attn = prefix + "self_attn.";
  const int64_t d = config_.hidden;
  const auto bias = [&](const char* name) {
    return load_tensor(store, attn + name, {d}, placement_);
  };
  Layer layer;
  layer.attention_norm = load_norm(store, prefix + "self_attn_layer_norm.");
  layer.mlp_norm = load_norm(store, prefix + "final_layer_norm.");
  layer.qkv.weight =
      load_linear(store, {attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"},
                  {d, d, d}, d, placement_);
  const Tensor q_bias = bias("q_proj.bias");
  layer.qkv.bias = at::cat({q_bias, at::zeros_like(q_bias), bias("v_proj.bias")});  // k has none
  layer.out = load_biased(store, attn + "out_proj.", d, d);
  layer.fc1 = load_biased(store, prefix + "fc1.", config_.inner, d);
  layer.fc2 = load_biased(store, prefix + "fc2.", d, config_.inner);
  return layer;
}

/// mel [mels, frames] -> the rows that hear only what is there, [frames / 2, d].
Tensor AudioTower::convolved(const Tensor& mel) const {
  const Tensor x = mel.t().to(placement_.device, placement_.dtype);
  const Tensor first = at::gelu(conv1_(neighbours(x, 1)));
  return at::gelu(conv2_(neighbours(first, 2))).slice(0, 0, mel.size(1) / 2);
}

Tensor AudioTower::run_layer(const Layer& layer, Tensor x) const {
  const int64_t rows = x.size(0), d = config_.hidden, heads = config_.heads;
  const auto normed = [d](const Tensor& value, const Norm& norm) {
    return at::layer_norm(value, {d}, norm.weight, norm.bias, kLayerNormEps);
  };
  const auto qkv = layer.qkv(normed(x, layer.attention_norm)).view({rows, 3, heads, d / heads});
  const Tensor starts = at::zeros({2}, at::kInt);
  starts.mutable_data_ptr<int32_t>()[1] = static_cast<int32_t>(rows);
  const double scale = 1 / std::sqrt(static_cast<double>(d) / static_cast<double>(heads));
  const Tensor mixed =
      ops::segment_attention(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), starts, scale);
  x = x + layer.out(mixed.reshape({rows, d}));
  return x + layer.fc2(at::gelu(layer.fc1(normed(x, layer.mlp_norm))));
}

Tensor AudioTower::run(const MediaFeatures& features) const {
  const at::NoGradGuard no_grad;
  const Tensor& mel = features.values;
  const int64_t rows = mel.size(-1) / 2, count = rows / 2;
  AERIE_CHECK(
      mel.dim() == 2 && mel.size(0) == config_.mels && rows <= config_.positions && count > 0,
      "audio tower: features [{}] where at most [{},{}] are needed: preprocessor_config.json "
      "and config.json belong to different models",
      fmt::join(mel.sizes(), ","), config_.mels, 2 * config_.positions);
  Tensor x = convolved(mel) + positions_.slice(0, 0, rows);
  for (const Layer& each : layers_) x = run_layer(each, std::move(x));
  x = x.slice(0, 0, 2 * count).view({count, 2, config_.hidden}).mean(1);
  return projector_(
      at::layer_norm(x, {config_.hidden}, final_norm_.weight, final_norm_.bias, kLayerNormEps));
}

}  // namespace aerie
