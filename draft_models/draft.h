// The EAGLE-3 draft: decoder layers, usually one, over [embedding | fused target features]. One
// forward serves training and decoding; they differ only in how a row attends.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "draft_models/draft_config.h"
#include "kernels/ops.h"

namespace aerie {

/// Which target ids the draft can propose. `draft_to_target` is ascending where Aerie made it.
struct VocabMap {
  Tensor draft_to_target;  ///< [W] i64
  Tensor target_to_draft;  ///< [V] i64, -1 outside the draft vocabulary
};

/// draft_to_target [W] i64 -> both directions. Throws Error for ids that repeat or are outside the
/// target's vocabulary of `vocab` tokens.
VocabMap make_vocab_map(const Tensor& draft_to_target, int64_t vocab);

/// A tensor that a draft consists of.
struct ParamShape {
  std::string name;
  std::vector<int64_t> shape;
  bool matrix() const { return shape.size() == 2; }  // norms are vectors
};

/// The tensors of a draft in their fixed order: "fc.weight" [C, A*Ct], "midlayer.*",
/// "norm.weight", "lm_head.weight" [W,C]. Two pairs are one tensor each, so that a
/// step packs and multiplies them once: "midlayer.self_attn.kv_proj.weight" = [k | v]
/// [2*G*D, 2*C] and "midlayer.mlp.gate_up_proj.weight" = [gate | up] [2*I, C]. Files have the
/// usual names (dialects.h splits and joins). Variants add "fc_norm.<i>.weight" [Ct], the q_norm
/// and k_norm [D] of a layer, and "layers.1.*" and on, whose projections read [C].
std::vector<ParamShape> draft_param_shapes(const DraftConfig& config);

/// The named tensors of a draft, f32 masters in training; order and names of draft_param_shapes.
struct DraftParams {
  std::vector<std::pair<std::string, Tensor>> tensors;
  Tensor& at(const std::string& name);
  const Tensor& at(const std::string& name) const;
};

/// Values that some tensors of a draft start from, by name.
using DraftStart = std::map<std::string, Tensor>;

/// New parameters, f32: what `start` names has its values; else matrices are normal(0, 0.02) drawn
/// from (seed, name) and norms 1. Throws Error for an unknown name or another shape.
DraftParams init_draft(const DraftConfig& config, const DraftStart& start, uint64_t seed);

/// "midlayer." for the first layer, "layers.<i>." for the others.
std::string layer_prefix(int64_t layer);

/// Queries of the selected rows, keys and values of all rows -> attention of the selected rows. q
/// [R,H,D], k, v [N,G,D] -> [R,H,D]. Called once for each layer, in order; all but the last get
/// queries of all rows.
using Attend = std::function<Tensor(const Tensor& q, const Tensor& k, const Tensor& v)>;

struct DraftStep {
  Tensor hidden;  ///< [R,C] the next step's input: before the final norm, or after (norm_output)
  Tensor normed;  ///< [R,C] after it: the head's input
};

/// What rows read in place of the embedding of their token: the target's features of media.
struct InputEmbeds {
  Tensor values;  ///< [M,C]; undefined: no row does
  Tensor rows;    ///< [M] i64: the rows that they are of; undefined: all
};

class Eagle3Draft {
 public:
  /// Frozen, for decoding: weights packed in `dtype` on the embedding's device.
  Eagle3Draft(DraftConfig config, const DraftParams& params, Tensor embed_weight,
              at::ScalarType dtype);
  /// Trainable: `params` are f32 leaves, and the draft shares them (update them in place). Call
  /// refresh() after every optimizer step.
  static Eagle3Draft trainable(DraftConfig config, const DraftParams& params, Tensor embed_weight,
                               at::ScalarType compute);
  /// Packs the masters' current values for the next step. Does nothing for a frozen draft.
  void refresh();

  /// captured [N,A*C] -> g [N,C]
  Tensor fuse(const Tensor& captured) const;
  /// tokens, positions [N] i64 ([3,N] where the target's axes differ), hidden [N,C] (g, or the
  /// previous step's hidden). Keys and values are made for every row; queries, MLP and output only
  /// for `rows` [R] i64 (undefined: all): prompts in decoding and unsupervised rows in training
  /// need no more. `embeds`: what some of the tokens stand for.
  DraftStep step(const Tensor& tokens, const Tensor& hidden, const Tensor& positions,
                 const Tensor& rows, const Attend& attend, const InputEmbeds& embeds = {}) const;
  /// normed [R,C] -> logits over the draft vocabulary [R,W] f32
  Tensor logits(const Tensor& normed) const;

  const DraftConfig& config() const { return config_; }
  const ops::LinearWeight& head() const { return head_; }

 private:
  struct Layer {
    ops::LinearWeight q, kv, o, gate_up, down;
    Tensor input_norm, post_norm;  // [C]
    Tensor q_norm, k_norm;         // [D], or undefined
  };
  /// How a named tensor becomes a weight.
  struct Reader {
    std::function<ops::LinearWeight(const std::string&)> matrix;
    std::function<Tensor(const std::string&)> vector;
  };

  Eagle3Draft(DraftConfig config, Tensor embed_weight);
  void read(const Reader& reader);
  Tensor embed(const Tensor& tokens, const InputEmbeds& embeds) const;
  /// u: the layer's normed input, [N,2C] or [N,C]; residual [N,C] -> the stream behind the layer,
  /// of `rows` only where these are defined.
  Tensor run_layer(const Layer& layer, const Tensor& u, const Tensor& residual,
                   const Tensor& positions, const Tensor& rows, const Attend& attend) const;

  DraftConfig config_;
  Tensor embed_;  // [V,C]
  ops::RopeTable rope_;
  Tensor rope_axes_;  // [D/2] i64
  ops::LinearWeight fc_, head_;
  std::vector<Layer> layers_;
  std::vector<Tensor> fc_norms_;     // [Ct] of each captured layer, or none
  Tensor hidden_norm_, final_norm_;  // [C]
  at::ScalarType compute_ = at::kBFloat16;
};

}  // namespace aerie
