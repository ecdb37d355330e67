#include "target_models/vision_hunyuan.h"

#include <ATen/ops/gelu.h>

#include "common/error.h"
#include "target_models/hf_json.h"
#include "target_models/multimodal.h"
#include "target_models/patch_grid.h"
#include "target_models/tower_layers.h"

namespace aerie {
namespace {

struct HunyuanVision {
  int64_t layers = 0, hidden = 0, intermediate = 0, heads = 0;
  int64_t patch = 0, merge = 0, side = 0;  // side: patches a side of the learned positions
  double norm_eps = 0;
  std::string gelu;

  int64_t patch_values() const { return 3 * patch * patch; }
};

HunyuanVision read_hunyuan_vision(const HfJson& file) {
  HunyuanVision c;
  c.layers = file.require_size("num_hidden_layers");
  c.hidden = file.require_size("hidden_size");
  c.intermediate = file.require_size("intermediate_size");
  c.heads = file.require_size("num_attention_heads");
  c.patch = file.require_size("patch_size");
  c.merge = file.require_size("spatial_merge_size");
  c.side = file.require_size("max_image_size") / c.patch;
  c.norm_eps = file.require<double>("rms_norm_eps");
  c.gelu = read_gelu(file, "hidden_act");
  const std::string mode = file.find<std::string>("interpolate_mode").value_or("bilinear");
  AERIE_CHECK(mode == "bilinear",
              "{}: \"interpolate_mode\" is \"{}\", and only \"bilinear\" is supported",
              file.where(), mode);
  AERIE_CHECK(c.hidden % c.heads == 0,
              "{}: \"hidden_size\" {} is no multiple of \"num_attention_heads\" {}", file.where(),
              c.hidden, c.heads);
  return c;
}

TowerBlock load_hunyuan_block(ParamStore& store, const HunyuanVision& c, int64_t index,
                              const Placement& placement) {
  const std::string prefix = fmt::format("vit.layers.{}.", index), attn = prefix + "self_attn.";
  const auto norm = [&](const char* name) {
    return load_layer_norm(store, prefix + name, c.hidden, c.norm_eps, placement);
  };
  TowerBlock block;
  block.attention_norm = norm("input_layernorm");
  block.mlp_norm = norm("post_attention_layernorm");
  block.attention.qkv = load_biased(store, {attn + "q_proj", attn + "k_proj", attn + "v_proj"},
                                    c.hidden, c.hidden, placement);
  block.attention.out = load_biased(store, {attn + "o_proj"}, c.hidden, c.hidden, placement);
  block.attention.heads = c.heads;
  block.fc1 =
      load_biased(store, {prefix + "mlp.dense_h_to_4h"}, c.intermediate, c.hidden, placement);
  block.fc2 =
      load_biased(store, {prefix + "mlp.dense_4h_to_h"}, c.hidden, c.intermediate, placement);
  block.gelu = c.gelu;
  return block;
}

/// Patches -> rows of the decoder: the patches of a token together, a learned row behind each row
/// of tokens, and one on either side of the image ("perceive" in the file).
class Perceiver {
 public:
  Perceiver() = default;
  Perceiver(const HunyuanVision& config, int64_t out, ParamStore& store,
            const Placement& placement);
  /// x [P,C], row by row -> [rows * (columns + 1) + 2, out]
  Tensor operator()(const Tensor& x, const PatchGrid& grid) const;

 private:
  double norm_eps_ = 0;
  std::string gelu_;
  Tensor before_norm_, after_norm_;   // [C], [out]
  BiasedLinear merge_, widen_, out_;  // [2C, m*m*C], [4C, 2C], [out, 4C]
  Tensor newline_, begin_, end_;      // [4C], [out], [out]
};

Perceiver::Perceiver(const HunyuanVision& config, int64_t out, ParamStore& store,
                     const Placement& placement)
    : norm_eps_(config.norm_eps), gelu_(config.gelu) {
  const std::string prefix = "vit.perceive.";
  const int64_t c = config.hidden, m = config.merge;
  before_norm_ = load_norm(store, prefix + "before_rms.weight", c, placement);
  after_norm_ = load_norm(store, prefix + "after_rms.weight", out, placement);
  // The patches of a token lie one after the other here; in the file the channels do.
  const Tensor kernel = load_tensor(store, prefix + "proj.0.weight", {2 * c, c, m, m}, placement);
  merge_ = {ops::pack_linear(kernel.permute({0, 2, 3, 1}).reshape({2 * c, m * m * c})),
            load_tensor(store, prefix + "proj.0.bias", {2 * c}, placement)};
  widen_ = load_patch_embedding(store, prefix + "proj.2", {4 * c, 2 * c, 1, 1}, placement);
  out_ = load_biased(store, {prefix + "mlp"}, out, 4 * c, placement);
  newline_ = load_tensor(store, prefix + "image_newline", {4 * c}, placement);
  begin_ = load_tensor(store, prefix + "image_begin", {out}, placement);
  end_ = load_tensor(store, prefix + "image_end", {out}, placement);
  store.take(prefix + "image_sep", {out});  // in the file, and read by nobody
}

Tensor Perceiver::operator()(const Tensor& x, const PatchGrid& grid) const {
  const Tensor places = token_order(grid, ops::rms_norm(x, before_norm_, norm_eps_));
  const Tensor merged = merge_(places.view({grid.tokens(), merge_.weight.in_features}));
  const Tensor tokens = widen_(at::gelu(merged, gelu_)).view({grid.rows, grid.columns, -1});
  const Tensor newlines = newline_.expand({grid.rows, 1, newline_.size(0)});
  const Tensor rows = out_(at::cat({tokens, newlines}, 1).flatten(0, 1));
  return ops::rms_norm(at::cat({begin_.unsqueeze(0), rows, end_.unsqueeze(0)}), after_norm_,
                       norm_eps_);
}

class HunyuanTower final : public MediaTower {
 public:
  HunyuanTower(const HunyuanVision& config, int64_t out, ParamStore& store,
               const Placement& placement);
  TowerOutput run(const MediaFeatures& features) const override;

 private:
  HunyuanVision config_;
  Placement placement_;
  BiasedLinear patches_;  // [C, 3*p*p]: a convolution whose steps are its size
  Tensor positions_;      // [side*side,C], learned
  std::vector<TowerBlock> blocks_;
  Perceiver perceiver_;
};

HunyuanTower::HunyuanTower(const HunyuanVision& config, int64_t out, ParamStore& store,
                           const Placement& placement)
    : config_(config), placement_(placement) {
  const int64_t c = config.hidden, p = config.patch, places = config.side * config.side;
  patches_ = load_patch_embedding(store, "vit.embeddings.patch_embedding", {c, 3, p, p}, placement);
  // The first entry is a class token's, which images do not have.
  positions_ =
      load_tensor(store, "vit.embeddings.position_embedding.weight", {places + 1, c}, placement)
          .narrow(0, 1, places);
  for (int64_t i = 0; i < config.layers; ++i) {
    blocks_.push_back(load_hunyuan_block(store, config, i, placement));
  }
  perceiver_ = Perceiver(config, out, store, placement);
}

TowerOutput HunyuanTower::run(const MediaFeatures& features) const {
  const at::NoGradGuard no_grad;
  // The features' grid has a column more: the tokens behind the rows.
  const PatchGrid grid{features.grid[1], features.grid[2] - 1, config_.merge};
  check_patches(features, grid.patches(), config_.patch_values());
  const TowerRows rows{one_segment(grid.patches())};
  Tensor x = patches_(features.values.to(placement_.device, placement_.dtype));
  x = x + resample_positions(positions_, grid, false).to(x.scalar_type());
  for (const TowerBlock& block : blocks_) x = block(x, rows);
  return {perceiver_(x, grid), {}};
}

}  // namespace

void read_hunyuan_vl(const HfJson&, ModelConfig& config) { config.rope.per_dimension = true; }

std::unique_ptr<TargetModel> make_hunyuan_vl(ModelConfig config, ParamStore store,
                                             at::Device device, at::ScalarType dtype) {
  const HfJson file = HfJson::read(store.directory() / "config.json");
  const HunyuanVision vision = read_hunyuan_vision(file.section("vision_config"));
  MediaTowers towers;
  towers.image =
      std::make_unique<HunyuanTower>(vision, config.hidden, store, Placement{device, dtype});
  return make_multimodal(std::move(config), std::move(store), std::move(towers), {device, dtype});
}

}  // namespace aerie
