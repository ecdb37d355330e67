#include "target_models/vision_qwen2_5.h"

#include <ATen/ops/gelu.h>

#include "common/error.h"
#include "target_models/hf_json.h"
#include "target_models/multimodal.h"
#include "target_models/patch_grid.h"
#include "target_models/tower_layers.h"

namespace aerie {
namespace {

constexpr double kQwen25NormEps = 1e-6;  // a constant of the published code

struct Qwen25Vision {
  int64_t depth = 0, hidden = 0, intermediate = 0, heads = 0;
  int64_t patch = 0, temporal_patch = 0, merge = 0, window = 0;  // window: pixels a side
  std::vector<int64_t> full_layers;                              // the others attend in windows

  int64_t patch_values() const { return 3 * temporal_patch * patch * patch; }
};

Qwen25Vision read_qwen2_5_vision(const HfJson& file, int64_t text_hidden) {
  Qwen25Vision c;
  c.depth = file.require_size("depth");
  c.hidden = file.require_size("hidden_size");
  c.intermediate = file.require_size("intermediate_size");
  c.heads = file.require_size("num_heads");
  c.patch = file.require_size("patch_size");
  c.temporal_patch = file.require_size("temporal_patch_size");
  c.merge = file.require_size("spatial_merge_size");
  c.window = file.require_size("window_size");
  c.full_layers = file.require<std::vector<int64_t>>("fullatt_block_indexes");
  const std::string act = file.require<std::string>("hidden_act");
  AERIE_CHECK(act == "silu", "{}: \"hidden_act\" is \"{}\", and only \"silu\" is supported",
              file.where(), act);
  const int64_t out = file.require_size("out_hidden_size");
  AERIE_CHECK(out == text_hidden, "{}: \"out_hidden_size\" is {} and the language model's {}",
              file.where(), out, text_hidden);
  AERIE_CHECK(c.hidden % (4 * c.heads) == 0,
              "{}: \"hidden_size\" {} must be a multiple of 4 x \"num_heads\" {}", file.where(),
              c.hidden, c.heads);
  return c;
}

struct Qwen25Block {
  Tensor norm1, norm2;  // [C]
  TowerAttention attention;
  BiasedLinear gate_up, down;  // [2I,C], [C,I]
};

Qwen25Block load_qwen2_5_block(ParamStore& store, const Qwen25Vision& c, int64_t index,
                               const Placement& placement) {
  const std::string prefix = fmt::format("visual.blocks.{}.", index);
  Qwen25Block block;
  block.norm1 = load_norm(store, prefix + "norm1.weight", c.hidden, placement);
  block.norm2 = load_norm(store, prefix + "norm2.weight", c.hidden, placement);
  block.attention.qkv =
      load_biased(store, {prefix + "attn.qkv"}, 3 * c.hidden, c.hidden, placement);
  block.attention.out = load_biased(store, {prefix + "attn.proj"}, c.hidden, c.hidden, placement);
  block.attention.heads = c.heads;
  block.gate_up = load_biased(store, {prefix + "mlp.gate_proj", prefix + "mlp.up_proj"},
                              c.intermediate, c.hidden, placement);
  block.down = load_biased(store, {prefix + "mlp.down_proj"}, c.hidden, c.intermediate, placement);
  return block;
}

class Qwen25Tower final : public MediaTower {
 public:
  Qwen25Tower(const Qwen25Vision& config, int64_t out, ParamStore& store,
              const Placement& placement);
  TowerOutput run(const MediaFeatures& features) const override;

 private:
  Tensor merge(const Tensor& x) const;

  Qwen25Vision config_;
  Placement placement_;
  ops::LinearWeight patches_;  // [C, 3*T*p*p]: a convolution whose steps are its size
  std::vector<Qwen25Block> blocks_;
  Tensor merge_norm_;                  // [C]
  BiasedLinear merge_in_, merge_out_;  // [m*m*C, m*m*C], [out, m*m*C]
};

Qwen25Tower::Qwen25Tower(const Qwen25Vision& config, int64_t out, ParamStore& store,
                         const Placement& placement)
    : config_(config), placement_(placement) {
  const int64_t c = config.hidden, p = config.patch;
  const Tensor kernel = load_tensor(store, "visual.patch_embed.proj.weight",
                                    {c, 3, config.temporal_patch, p, p}, placement);
  patches_ = ops::pack_linear(kernel.view({c, config.patch_values()}));
  for (int64_t i = 0; i < config.depth; ++i) {
    blocks_.push_back(load_qwen2_5_block(store, config, i, placement));
  }
  const int64_t merged = c * config.merge * config.merge;
  merge_norm_ = load_norm(store, "visual.merger.ln_q.weight", c, placement);
  merge_in_ = load_biased(store, {"visual.merger.mlp.0"}, merged, merged, placement);
  merge_out_ = load_biased(store, {"visual.merger.mlp.2"}, out, merged, placement);
}

/// x [P,C] -> [tokens,out]
Tensor Qwen25Tower::merge(const Tensor& x) const {
  const Tensor normed = ops::rms_norm(x, merge_norm_, kQwen25NormEps);
  return merge_out_(at::gelu(merge_in_(normed.view({-1, merge_in_.weight.in_features}))));
}

TowerOutput Qwen25Tower::run(const MediaFeatures& features) const {
  const at::NoGradGuard no_grad;
  const PatchGrid grid{features.grid[1], features.grid[2], config_.merge};
  check_patches(features, grid.patches(), config_.patch_values());
  const WindowOrder windows =
      order_by_window(grid, config_.window / (config_.merge * config_.patch));
  const auto by_window = [&](const Tensor& rows) {  // [P,...], token by token
    return rows.view({grid.tokens(), -1}).index_select(0, windows.order).view(rows.sizes());
  };
  ops::RopeTable table = patch_rope_table(grid, config_.hidden / config_.heads);
  const ops::RopeRows rope{
      {by_window(table.cos).to(placement_.device), by_window(table.sin).to(placement_.device)},
      at::arange(grid.patches(), at::kLong).to(placement_.device)};
  const TowerRows everything{one_segment(grid.patches()), &rope}, in_windows{windows.starts, &rope};
  Tensor x =
      ops::linear(by_window(features.values).to(placement_.device, placement_.dtype), patches_);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Qwen25Block& block = blocks_[i];
    const auto& full = config_.full_layers;
    const bool everywhere = std::count(full.begin(), full.end(), static_cast<int64_t>(i)) > 0;
    x = x + block.attention(ops::rms_norm(x, block.norm1, kQwen25NormEps),
                            everywhere ? everything : in_windows);
    x = x + block.down(ops::swiglu(block.gate_up(ops::rms_norm(x, block.norm2, kQwen25NormEps))));
  }
  return {merge(x).index_select(0, windows.inverse.to(placement_.device)), {}};
}

}  // namespace

std::unique_ptr<TargetModel> make_qwen2_5_vl(ModelConfig config, ParamStore store,
                                             at::Device device, at::ScalarType dtype) {
  // transformers 5 in memory, and files that it wrote under those names.
  store.rename_prefix("model.language_model.", "model.");
  store.rename_prefix("model.visual.", "visual.");
  const HfJson file = HfJson::read(store.directory() / "config.json");
  const Qwen25Vision vision = read_qwen2_5_vision(file.section("vision_config"), config.hidden);
  MediaTowers towers;
  towers.image =
      std::make_unique<Qwen25Tower>(vision, config.hidden, store, Placement{device, dtype});
  return make_multimodal(std::move(config), std::move(store), std::move(towers), {device, dtype});
}

}  // namespace aerie
