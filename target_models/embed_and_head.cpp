#include "target_models/embed_and_head.h"

#include <optional>

#include "common/error.h"

namespace aerie {
namespace {

/// Whether a draft's layer can start from the model's: one MLP, norms before the halves only.
bool has_draft_form(const ModelConfig& c) { return c.moe.experts == 0 && !c.gemma.on; }

}  // namespace

std::optional<LastLayer> view_last_layer(ParamStore& store, const ModelConfig& c) {
  if (!has_draft_form(c)) return std::nullopt;
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
  last.qk_norm = c.qk_norm != QkNorm::kNone;
  if (c.qk_norm == QkNorm::kBeforeRope) {
    last.q_norm = view("self_attn.q_norm.weight", {c.head_dim});
    last.k_norm = view("self_attn.k_norm.weight", {c.head_dim});
  }
  return last;
}

EmbedAndHead load_embed_and_head(ParamStore& store, const ModelConfig& config,
                                 const Placement& placement) {
  const std::string embed = "model.embed_tokens.weight";
  const std::string head = config.tied_head ? embed : "lm_head.weight";
  EmbedAndHead result;
  result.embed = store.take(embed, {config.input_vocab(), config.hidden})
                     .to(placement.device, placement.dtype);
  result.head_view = store.take(head, {config.vocab, config.hidden});
  result.head = ops::pack_linear(
      config.tied_head ? result.embed : result.head_view.to(placement.device, placement.dtype));
  store.drop(embed);
  if (!config.tied_head) store.drop(head);
  return result;
}

Tensor EmbedAndHead::head_rows(const Tensor& ids, const Placement& placement) const {
  return head_view.index_select(0, ids.to(head_view.device()))
      .to(placement.device, placement.dtype);
}

namespace {

class HeadOnly final : public TargetModel {
 public:
  HeadOnly(ModelConfig config, ParamStore store, const Placement& placement)
      : config_(std::move(config)),
        placement_(placement),
        directory_(store.directory().string()),
        ends_(load_embed_and_head(store, config_, placement)),
        last_(view_last_layer(store, config_)) {}

  ForwardOutput forward(const ForwardInput& /*input*/) const override {
    fail(
        "{}: of this target only the embedding and the head were loaded, and a forward pass was "
        "asked for: load it whole (load_target)",
        directory_);
  }
  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return ends_.embed; }
  const ops::LinearWeight& head() const override { return ends_.head; }
  Tensor head_rows(const Tensor& ids) const override { return ends_.head_rows(ids, placement_); }
  std::optional<LastLayer> last_layer() const override { return last_; }
  at::ScalarType dtype() const override { return placement_.dtype; }
  at::Device device() const override { return placement_.device; }

 private:
  ModelConfig config_;
  Placement placement_;
  std::string directory_;
  EmbedAndHead ends_;
  std::optional<LastLayer> last_;
};

}  // namespace

std::unique_ptr<TargetModel> make_head_only(ModelConfig config, ParamStore store, at::Device device,
                                            at::ScalarType dtype) {
  return std::make_unique<HeadOnly>(std::move(config), std::move(store), Placement{device, dtype});
}

}  // namespace aerie
