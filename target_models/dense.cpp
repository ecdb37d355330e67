#include "target_models/dense.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include <limits>

#include "common/error.h"
#include "target_models/attention_layer.h"
#include "target_models/embed_and_head.h"
#include "target_models/feed_forward.h"
#include "target_models/rope.h"

namespace aerie {
namespace {

struct DenseLayer {
  Tensor input_norm, post_norm;             // [C], before attention and before the MLP
  Tensor attention_out_norm, mlp_out_norm;  // [C], after them: Gemma 3
  AttentionLayer attention;
  FeedForward feed_forward;
  bool local_rope = false;
};

DenseLayer load_layer(ParamStore& store, const ModelConfig& c, int64_t index,
                      const Placement& placement) {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const auto norm = [&](const char* name) {
    return load_norm(store, prefix + name, c.hidden, placement, c.gemma.on ? 1 : 0);
  };
  DenseLayer layer;
  layer.input_norm = norm("input_layernorm.weight");
  if (c.gemma.on) {
    layer.attention_out_norm = norm("post_attention_layernorm.weight");
    layer.post_norm = norm("pre_feedforward_layernorm.weight");
    layer.mlp_out_norm = norm("post_feedforward_layernorm.weight");
    layer.local_rope = c.gemma.sliding[index];
  } else {
    layer.post_norm = norm("post_attention_layernorm.weight");
  }
  layer.attention = load_attention(store, c, index, prefix + "self_attn.", placement);
  layer.feed_forward = load_feed_forward(store, c, index, prefix + "mlp.", placement);
  return layer;
}

class DenseModel final : public TargetModel {
 public:
  DenseModel(ModelConfig config, ParamStore store, const Placement& placement);

  ForwardOutput forward(const ForwardInput& input) const override;
  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return ends_.embed; }
  const ops::LinearWeight& head() const override { return ends_.head; }
  Tensor head_rows(const Tensor& ids) const override { return ends_.head_rows(ids, placement_); }
  std::optional<LastLayer> last_layer() const override { return last_; }
  at::ScalarType dtype() const override { return placement_.dtype; }
  at::Device device() const override { return placement_.device; }

 private:
  void check(const ForwardInput& input) const;
  Tensor embed(const ForwardInput& input) const;
  HeadAngles angles_of(const Tensor& positions) const;

  ModelConfig config_;
  Placement placement_;
  double embed_scale_ = 1;
  ops::RopeTable rope_, local_rope_;
  Tensor rope_axes_, second_axes_;  // [D/2] i64; the second of HunyuanOCR only
  std::vector<DenseLayer> layers_;
  Tensor final_norm_;  // [C]
  EmbedAndHead ends_;
  std::optional<LastLayer> last_;  // views on the file
};

DenseModel::DenseModel(ModelConfig config, ParamStore store, const Placement& placement)
    : config_(std::move(config)),
      placement_(placement),
      rope_(
          make_rope_table(config_.rope, config_.head_dim, config_.max_position, placement.device)),
      rope_axes_(rope_axes(config_.rope, config_.head_dim).to(placement.device)) {
  if (config_.rope.per_dimension) {
    second_axes_ = rope_axes(config_.rope, config_.head_dim, 1).to(placement.device);
  }
  if (config_.gemma.on) {
    local_rope_ = make_rope_table(config_.gemma.local_rope, config_.head_dim, config_.max_position,
                                  placement.device);
    // Rounded to the model's type, as it was in training.
    embed_scale_ = at::scalar_tensor(config_.gemma.embed_scale, placement.dtype).item<double>();
  }
  for (int64_t i = 0; i < config_.layers; ++i) {
    layers_.push_back(load_layer(store, config_, i, placement));
  }
  final_norm_ =
      load_norm(store, "model.norm.weight", config_.hidden, placement, config_.gemma.on ? 1 : 0);
  ends_ = load_embed_and_head(store, config_, placement);
  last_ = view_last_layer(store, config_);
  store.finish([this](const std::string& name) {
    return name.ends_with("rotary_emb.inv_freq") || (config_.tied_head && name == "lm_head.weight");
  });
}

void DenseModel::check(const ForwardInput& input) const {
  const Tensor& positions = input.positions;
  const bool one_axis = positions.dim() == 1,
             every_axis = positions.dim() == 2 && positions.size(0) == config_.rope.axes();
  AERIE_CHECK((one_axis || every_axis) && positions.size(-1) == input.tokens.numel(),
              "forward: positions must be [N] or [{},N], N the {} tokens", config_.rope.axes(),
              input.tokens.numel());
  AERIE_CHECK(!input.deepstack.defined() || input.embed_rows.defined(),
              "forward: deepstack is added to embed_rows, and these were not given");
  AERIE_CHECK(!input.layout.pages.defined() || input.kv != nullptr,
              "forward: the layout has pages, but no cache (kv) was given");
  const auto& capture = input.capture_layers;
  for (size_t i = 0; i < capture.size(); ++i) {
    AERIE_CHECK(capture[i] > (i == 0 ? -1 : capture[i - 1]) && capture[i] < config_.layers,
                "capture_layers [{}] must be ascending and below {}, the model's number of layers",
                fmt::join(capture, ","), config_.layers);
  }
  if (!input.positions.is_cpu()) return;
  const Tensor all = positions.contiguous();
  const int64_t* position = all.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < input.positions.numel(); ++i) {
    AERIE_CHECK(position[i] >= 0 && position[i] < config_.max_position,
                "position {} is outside the model's context of {} tokens "
                "(max_position_embeddings): shorten the text",
                position[i], config_.max_position);
  }
}

/// A fresh tensor: the residual stream is summed in place.
Tensor DenseModel::embed(const ForwardInput& input) const {
  if (input.embeds.defined() && !input.embed_rows.defined()) return input.embeds.clone();
  Tensor rows = ops::embedding(input.tokens, ends_.embed);
  if (embed_scale_ != 1) rows.mul_(embed_scale_);
  if (!input.embeds.defined()) return rows;
  return rows.index_copy_(0, input.embed_rows, input.embeds.to(rows.scalar_type()));
}

HeadAngles DenseModel::angles_of(const Tensor& positions) const {
  HeadAngles angles{ops::select_rope(rope_, positions, rope_axes_), {}};
  if (second_axes_.defined() && positions.dim() == 2) {
    angles.second_half = ops::select_rope(rope_, positions, second_axes_);
  }
  return angles;
}

/// Adds DeepStack's features of decoder layer `index` to what the layer is about to add to the
/// stream.
void add_deepstack(const ForwardInput& input, int64_t index, int64_t width, Tensor& added) {
  if (!input.deepstack.defined() || (index + 1) * width > input.deepstack.size(1)) return;
  const Tensor features = input.deepstack.narrow(1, index * width, width);
  added.index_add_(0, input.embed_rows, features.to(added.scalar_type()));
}

ForwardOutput DenseModel::forward(const ForwardInput& input) const {
  const at::NoGradGuard no_grad;
  check(input);
  const double eps = config_.rms_norm_eps;
  const auto& capture = input.capture_layers;
  ForwardOutput out;
  const HeadAngles angles = angles_of(input.positions);
  const HeadAngles local_angles{{local_rope_, input.positions}, {}};
  Tensor residual = embed(input);
  if (!capture.empty()) {
    const int64_t width = static_cast<int64_t>(capture.size()) * config_.hidden;
    out.captured = at::empty({residual.size(0), width}, residual.options());
  }
  Tensor x = ops::rms_norm(residual, layers_[0].input_norm, eps);
  size_t captured = 0;
  for (int64_t i = 0; i < config_.layers; ++i) {
    const DenseLayer& layer = layers_[i];
    Tensor mixed =
        attend(layer.attention, config_, i, layer.local_rope ? local_angles : angles, x, input);
    if (config_.gemma.on) mixed = ops::rms_norm(mixed, layer.attention_out_norm, eps);
    x = ops::add_rms_norm_(residual, mixed, layer.post_norm, eps);
    Tensor mlp = layer.feed_forward(x);
    if (config_.gemma.on) mlp = ops::rms_norm(mlp, layer.mlp_out_norm, eps);
    add_deepstack(input, i, config_.hidden, mlp);
    const Tensor& next_norm = i + 1 < config_.layers ? layers_[i + 1].input_norm : final_norm_;
    x = ops::add_rms_norm_(residual, mlp, next_norm, eps);
    if (captured < capture.size() && capture[captured] == i) {
      const int64_t column = static_cast<int64_t>(captured++) * config_.hidden;
      out.captured.narrow(1, column, config_.hidden).copy_(residual);
    }
  }
  out.hidden = x;
  if (input.logit_rows.defined()) {
    out.logits = ops::linear(x.index_select(0, input.logit_rows), ends_.head).to(at::kFloat);
    if (config_.mask_token >= 0) {
      out.logits.select(1, config_.mask_token).fill_(-std::numeric_limits<double>::infinity());
    }
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
