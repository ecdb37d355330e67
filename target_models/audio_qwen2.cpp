#include "target_models/audio_qwen2.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/gelu.h>

#include "common/error.h"
#include "target_models/hf_json.h"
#include "target_models/multimodal.h"
#include "target_models/tower_layers.h"

namespace aerie {
namespace {

constexpr int64_t kKernelRows = 3;      // of both convolutions
constexpr double kLayerNormEps = 1e-5;  // PyTorch's default, which the class does not change

struct AudioConfig {
  int64_t mels = 0, layers = 0, heads = 0, intermediate = 0, hidden = 0;
  int64_t positions = 0;  // rows after the convolutions of a full window; 2 frames each
};

AudioConfig read_audio_config(const HfJson& file) {
  const std::string act = file.find<std::string>("activation_function").value_or("gelu");
  AERIE_CHECK(act == "gelu",
              "{}: \"activation_function\" is \"{}\", and only \"gelu\" is supported", file.where(),
              act);
  AERIE_CHECK(!file.find<bool>("scale_embedding").value_or(false),
              "{}: \"scale_embedding\" is true, which is not supported", file.where());
  AudioConfig c;
  c.mels = file.require_size("num_mel_bins");
  c.layers = file.require_size("encoder_layers");
  c.heads = file.require_size("encoder_attention_heads");
  c.intermediate = file.require_size("encoder_ffn_dim");
  c.hidden = file.require_size("d_model");
  c.positions = file.require_size("max_source_positions");
  AERIE_CHECK(c.hidden % c.heads == 0,
              "{}: \"d_model\" {} is no multiple of \"encoder_attention_heads\" {}", file.where(),
              c.hidden, c.heads);
  return c;
}

/// A convolution [out, in, 3] as a product with three neighbouring rows side by side.
BiasedLinear load_convolution(ParamStore& store, const std::string& name, int64_t out, int64_t in,
                              const Placement& placement) {
  const Tensor kernel = load_tensor(store, name + ".weight", {out, in, kKernelRows}, placement);
  return {ops::pack_linear(kernel.transpose(1, 2).reshape({out, kKernelRows * in})),
          load_tensor(store, name + ".bias", {out}, placement)};
}

/// x [N,I] -> [M,3*I]: every `stride`-th row between its neighbours, zeros beyond the ends.
Tensor neighbours(const Tensor& x, int64_t stride) {
  const Tensor padded = at::constant_pad_nd(x, {0, 0, 1, 1});
  std::vector<Tensor> columns;
  for (int64_t k = 0; k < kKernelRows; ++k)
    columns.push_back(padded.slice(0, k, k + x.size(0), stride));
  return at::cat(columns, 1);
}

TowerBlock load_encoder_layer(ParamStore& store, const AudioConfig& c, int64_t index,
                              const Placement& placement) {
  const std::string prefix = fmt::format("audio_tower.layers.{}.", index);
  const std::string attn = prefix + "self_attn.";
  const auto norm = [&](const char* name) {
    return load_layer_norm(store, prefix + name, c.hidden, kLayerNormEps, placement);
  };
  TowerBlock layer;
  layer.attention_norm = norm("self_attn_layer_norm");
  layer.mlp_norm = norm("final_layer_norm");
  BiasedLinear& qkv = layer.attention.qkv;
  qkv.weight =
      load_linear(store, {attn + "q_proj.weight", attn + "k_proj.weight", attn + "v_proj.weight"},
                  {c.hidden, c.hidden, c.hidden}, c.hidden, placement);
  const Tensor q = load_tensor(store, attn + "q_proj.bias", {c.hidden}, placement);
  const Tensor v = load_tensor(store, attn + "v_proj.bias", {c.hidden}, placement);
  qkv.bias = at::cat({q, at::zeros_like(q), v});  // keys have none
  layer.attention.out = load_biased(store, {attn + "out_proj"}, c.hidden, c.hidden, placement);
  layer.attention.heads = c.heads;
  layer.fc1 = load_biased(store, {prefix + "fc1"}, c.intermediate, c.hidden, placement);
  layer.fc2 = load_biased(store, {prefix + "fc2"}, c.hidden, c.intermediate, placement);
  return layer;
}

/// Features: [mels, frames] of one window, only those that the convolutions of the R heard rows
/// reach, 2 * R + 1, or the whole window of 2 * positions -> [R / 2, out]. Rows of silence are not
/// computed: in the model nothing attends to them.
class AudioTower final : public MediaTower {
 public:
  AudioTower(const AudioConfig& config, int64_t out, ParamStore& store, const Placement& placement);
  TowerOutput run(const MediaFeatures& features) const override;

 private:
  Tensor convolved(const Tensor& mel) const;

  AudioConfig config_;
  Placement placement_;
  BiasedLinear conv1_, conv2_, projector_;  // [C, 3*mels], [C, 3*C], [out, C]
  Tensor positions_;                        // [positions, C]
  std::vector<TowerBlock> layers_;
  LayerNorm final_norm_;
};

AudioTower::AudioTower(const AudioConfig& config, int64_t out, ParamStore& store,
                       const Placement& placement)
    : config_(config), placement_(placement) {
  const int64_t c = config.hidden;
  conv1_ = load_convolution(store, "audio_tower.conv1", c, config.mels, placement);
  conv2_ = load_convolution(store, "audio_tower.conv2", c, c, placement);
  positions_ =
      load_tensor(store, "audio_tower.embed_positions.weight", {config.positions, c}, placement);
  for (int64_t i = 0; i < config.layers; ++i)
    layers_.push_back(load_encoder_layer(store, config, i, placement));
  final_norm_ = load_layer_norm(store, "audio_tower.layer_norm", c, kLayerNormEps, placement);
  projector_ = load_biased(store, {"multi_modal_projector.linear"}, out, c, placement);
}

/// mel [mels, frames] -> the rows that hear only what is there, [frames / 2, C].
Tensor AudioTower::convolved(const Tensor& mel) const {
  const Tensor x = mel.t().to(placement_.device, placement_.dtype);
  const Tensor first = at::gelu(conv1_(neighbours(x, 1)));
  return at::gelu(conv2_(neighbours(first, 2))).slice(0, 0, mel.size(1) / 2);
}

TowerOutput AudioTower::run(const MediaFeatures& features) const {
  const at::NoGradGuard no_grad;
  const Tensor& mel = features.values;
  const int64_t rows = mel.size(1) / 2, tokens = rows / 2;
  AERIE_CHECK(mel.size(0) == config_.mels && rows <= config_.positions,
              "preprocessor_config.json makes {} bands and up to {} frames of this audio where "
              "config.json's audio_config implies {} and at most {}: the files are of different "
              "models",
              mel.size(0), mel.size(1), config_.mels, 2 * config_.positions);
  Tensor x = convolved(mel) + positions_.slice(0, 0, rows);
  const TowerRows all{one_segment(rows)};
  for (const TowerBlock& layer : layers_) x = layer(x, all);
  const Tensor pairs = x.slice(0, 0, 2 * tokens).view({tokens, 2, config_.hidden});
  return {projector_(final_norm_(pairs.mean(1))), {}};
}

}  // namespace

std::unique_ptr<TargetModel> make_qwen2_audio(ModelConfig config, ParamStore store,
                                              at::Device device, at::ScalarType dtype) {
  // transformers 5 in memory, and files that it wrote under those names.
  store.rename_prefix("model.language_model.", "model.");
  store.rename_prefix("model.audio_tower.", "audio_tower.");
  store.rename_prefix("model.multi_modal_projector.", "multi_modal_projector.");
  // Published files.
  store.rename_prefix("language_model.model.", "model.");
  store.rename_prefix("language_model.lm_head.", "lm_head.");
  const HfJson file = HfJson::read(store.directory() / "config.json");
  const AudioConfig audio = read_audio_config(file.section("audio_config"));
  MediaTowers towers;
  towers.audio =
      std::make_unique<AudioTower>(audio, config.hidden, store, Placement{device, dtype});
  return make_multimodal(std::move(config), std::move(store), std::move(towers), {device, dtype});
}

}  // namespace aerie
