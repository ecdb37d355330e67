#include "target_models/vision_qwen3.h"

#include <ATen/ops/gelu.h>

#include "common/error.h"
#include "target_models/hf_json.h"
#include "target_models/moe.h"
#include "target_models/multimodal.h"
#include "target_models/patch_grid.h"
#include "target_models/tower_layers.h"

namespace aerie {
namespace {

constexpr double kQwen3NormEps = 1e-6;  // a constant of the published code

struct Qwen3Vision {
  int64_t depth = 0, hidden = 0, intermediate = 0, heads = 0, positions = 0;
  int64_t patch = 0, temporal_patch = 0, merge = 0;
  std::vector<int64_t> deepstack;  // layers whose output enters the decoder, in its order
  std::string gelu;

  int64_t patch_values() const { return 3 * temporal_patch * patch * patch; }
  int64_t merged() const { return hidden * merge * merge; }
};

Qwen3Vision read_qwen3_vision(const HfJson& file, const ModelConfig& text) {
  Qwen3Vision c;
  c.depth = file.require_size("depth");
  c.hidden = file.require_size("hidden_size");
  c.intermediate = file.require_size("intermediate_size");
  c.heads = file.require_size("num_heads");
  c.positions = file.require_size("num_position_embeddings");
  c.patch = file.require_size("patch_size");
  c.temporal_patch = file.require_size("temporal_patch_size");
  c.merge = file.require_size("spatial_merge_size");
  c.deepstack = file.require<std::vector<int64_t>>("deepstack_visual_indexes");
  c.gelu = read_gelu(file, "hidden_act");
  const int64_t out = file.require_size("out_hidden_size");
  AERIE_CHECK(out == text.hidden, "{}: \"out_hidden_size\" is {} and the language model's {}",
              file.where(), out, text.hidden);
  AERIE_CHECK(c.hidden % (4 * c.heads) == 0,
              "{}: \"hidden_size\" {} must be a multiple of 4 x \"num_heads\" {}", file.where(),
              c.hidden, c.heads);
  for (size_t i = 0; i < c.deepstack.size(); ++i) {
    AERIE_CHECK(c.deepstack[i] > (i == 0 ? -1 : c.deepstack[i - 1]) && c.deepstack[i] < c.depth &&
                    static_cast<int64_t>(i) < text.layers,
                "{}: \"deepstack_visual_indexes\" [{}] must be ascending layers of the {} and no "
                "more than the language model's {}",
                file.where(), fmt::join(c.deepstack, ","), c.depth, text.layers);
  }
  return c;
}

TowerBlock load_qwen3_block(ParamStore& store, const Qwen3Vision& c, int64_t index,
                            const Placement& placement) {
  const std::string prefix = fmt::format("visual.blocks.{}.", index);
  TowerBlock block;
  block.attention_norm =
      load_layer_norm(store, prefix + "norm1", c.hidden, kQwen3NormEps, placement);
  block.mlp_norm = load_layer_norm(store, prefix + "norm2", c.hidden, kQwen3NormEps, placement);
  block.attention.qkv =
      load_biased(store, {prefix + "attn.qkv"}, 3 * c.hidden, c.hidden, placement);
  block.attention.out = load_biased(store, {prefix + "attn.proj"}, c.hidden, c.hidden, placement);
  block.attention.heads = c.heads;
  block.fc1 = load_biased(store, {prefix + "mlp.linear_fc1"}, c.intermediate, c.hidden, placement);
  block.fc2 = load_biased(store, {prefix + "mlp.linear_fc2"}, c.hidden, c.intermediate, placement);
  block.gelu = c.gelu;
  return block;
}

/// Patches of a token -> a row of the decoder: normed each by itself, or (DeepStack) all together.
struct Qwen3Merger {
  LayerNorm norm;  // [C] or [m*m*C]
  BiasedLinear fc1, fc2;
  Tensor operator()(const Tensor& x) const {  // [P,C] -> [tokens,out]
    const Tensor rows = x.view({-1, norm.weight.size(0)});
    return fc2(at::gelu(fc1(norm(rows).view({-1, fc1.weight.in_features}))));
  }
};

Qwen3Merger load_qwen3_merger(ParamStore& store, const Qwen3Vision& c, const std::string& prefix,
                              int64_t norm_size, int64_t out, const Placement& placement) {
  return {load_layer_norm(store, prefix + "norm", norm_size, kQwen3NormEps, placement),
          load_biased(store, {prefix + "linear_fc1"}, c.merged(), c.merged(), placement),
          load_biased(store, {prefix + "linear_fc2"}, out, c.merged(), placement)};
}

class Qwen3Tower final : public MediaTower {
 public:
  Qwen3Tower(const Qwen3Vision& config, int64_t out, ParamStore& store, const Placement& placement);
  TowerOutput run(const MediaFeatures& features) const override;

 private:
  Tensor embed(const Tensor& patches, const PatchGrid& grid) const;

  Qwen3Vision config_;
  Placement placement_;
  BiasedLinear patches_;  // [C, 3*T*p*p]: a convolution whose steps are its size
  Tensor positions_;      // [side*side,C], learned
  std::vector<TowerBlock> blocks_;
  Qwen3Merger merger_;
  std::vector<Qwen3Merger> deepstack_;
};

Qwen3Tower::Qwen3Tower(const Qwen3Vision& config, int64_t out, ParamStore& store,
                       const Placement& placement)
    : config_(config), placement_(placement) {
  const int64_t c = config.hidden, p = config.patch;
  patches_ = load_patch_embedding(store, "visual.patch_embed.proj",
                                  {c, 3, config.temporal_patch, p, p}, placement);
  positions_ = load_tensor(store, "visual.pos_embed.weight", {config.positions, c}, placement);
  for (int64_t i = 0; i < config.depth; ++i) {
    blocks_.push_back(load_qwen3_block(store, config, i, placement));
  }
  merger_ = load_qwen3_merger(store, config, "visual.merger.", c, out, placement);
  for (size_t i = 0; i < config.deepstack.size(); ++i) {
    deepstack_.push_back(load_qwen3_merger(store, config,
                                           fmt::format("visual.deepstack_merger_list.{}.", i),
                                           config.merged(), out, placement));
  }
}

/// patches [P,3*T*p*p] -> [P,C], token by token
Tensor Qwen3Tower::embed(const Tensor& patches, const PatchGrid& grid) const {
  const Tensor x = patches_(patches.to(placement_.device, placement_.dtype));
  const Tensor positions = token_order(grid, resample_positions(positions_, grid, true));
  return x + positions.to(x.scalar_type());
}

TowerOutput Qwen3Tower::run(const MediaFeatures& features) const {
  const at::NoGradGuard no_grad;
  const PatchGrid grid{features.grid[1], features.grid[2], config_.merge};
  check_patches(features, grid.patches(), config_.patch_values());
  const ops::RopeTable table = patch_rope_table(grid, config_.hidden / config_.heads);
  const ops::RopeRows rope{{table.cos.to(placement_.device), table.sin.to(placement_.device)},
                           at::arange(grid.patches(), at::kLong).to(placement_.device)};
  const TowerRows rows{one_segment(grid.patches()), &rope};
  Tensor x = embed(features.values, grid);
  std::vector<Tensor> deepstack;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = blocks_[i](x, rows);
    const size_t level = deepstack.size();
    if (level < deepstack_.size() && config_.deepstack[level] == static_cast<int64_t>(i)) {
      deepstack.push_back(deepstack_[level](x));
    }
  }
  return {merger_(x), deepstack.empty() ? Tensor() : at::cat(deepstack, 1)};
}

}  // namespace

void read_qwen3_vl(const HfJson&, ModelConfig& config) {
  config.rope.interleaved = true;
  if (config.rope.sections.empty()) config.rope.sections = {24, 20, 20};
}

void read_qwen3_vl_moe(const HfJson& file, ModelConfig& config) {
  read_moe(file, config);
  read_qwen3_vl(file, config);
}

std::unique_ptr<TargetModel> make_qwen3_vl(ModelConfig config, ParamStore store, at::Device device,
                                           at::ScalarType dtype) {
  store.rename_prefix("model.language_model.", "model.");
  store.rename_prefix("model.visual.", "visual.");
  const HfJson file = HfJson::read(store.directory() / "config.json");
  const Qwen3Vision vision = read_qwen3_vision(file.section("vision_config"), config);
  MediaTowers towers;
  towers.image =
      std::make_unique<Qwen3Tower>(vision, config.hidden, store, Placement{device, dtype});
  return make_multimodal(std::move(config), std::move(store), std::move(towers), {device, dtype});
}

}  // namespace aerie
