// The EAGLE-3 draft: one decoder layer over [embedding | fused target features]. One forward serves
// training and decoding; they differ only in how a row attends.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "draft_models/draft_config.h"
#include "kernels/ops.h"

namespace aerie {

/// Which target ids the draft can propose. `draft_to_target` is ascending.
struct VocabMap {
  Tensor draft_to_target;  ///< [W] i64
  Tensor target_to_draft;  ///< [V] i64, -1 outside the draft vocabulary
};

/// The named tensors of a draft, f32 masters in training and the compute type in decoding; names as
/// in eagle3.md §2.1
/// ("midlayer.self_attn.q_proj.weight", ...), without embedding, d2t and t2d.
struct DraftParams {
  std::vector<std::pair<std::string, Tensor>> tensors;
  Tensor& at(const std::string& name);
  const Tensor& at(const std::string& name) const;
};

/// New parameters: normal(0, 0.02) with `seed`, norms 1, the head = the target's rows of the draft
/// vocabulary [W,C].
DraftParams init_draft(const DraftConfig& config, const Tensor& head_rows, uint64_t seed);

/// Queries of the selected rows, keys and values of all rows -> attention of the selected rows. q
/// [R,H,D], k, v [N,G,D] -> [R,H,D].
using Attend = std::function<Tensor(const Tensor& q, const Tensor& k, const Tensor& v)>;

struct DraftStep {
  Tensor hidden;  ///< [R,C] before the final norm: the next step's input
  Tensor normed;  ///< [R,C] after it: the head's input
};

class Eagle3Draft {
 public:
  /// Frozen, for decoding: weights packed in `dtype`.
  Eagle3Draft(DraftConfig config, const DraftParams& params, Tensor embed_weight,
              at::ScalarType dtype);
  /// Trainable: `params` are f32 leaves. Call refresh() after every optimizer step.
  static Eagle3Draft trainable(DraftConfig config, DraftParams& params, Tensor embed_weight,
                               at::ScalarType compute);
  /// Packs the masters' current values for the next step.
  void refresh();

  /// captured [N,A*C] -> g [N,C]
  Tensor fuse(const Tensor& captured) const;
  /// tokens, positions [N] i64, hidden [N,C] (g, or the previous step's hidden). Keys and values
  /// are made for every row; queries, MLP and output only for `rows` [R] i64 (undefined: all):
  /// prompts in decoding and unsupervised rows in training need no more.
  DraftStep step(const Tensor& tokens, const Tensor& hidden, const Tensor& positions,
                 const Tensor& rows, const Attend& attend) const;
  /// normed [R,C] -> logits over the draft vocabulary [R,W] f32
  Tensor logits(const Tensor& normed) const;

  const DraftConfig& config() const { return config_; }
  const ops::LinearWeight& head() const { return head_; }

 private:
  Eagle3Draft() = default;
  DraftConfig config_;
  DraftParams* masters_ = nullptr;  // set when trainable
  at::ScalarType compute_ = at::kBFloat16;
  Tensor embed_;  // [V,C]
  ops::RopeTable rope_;
  ops::LinearWeight fc_, qkv_, o_, gate_up_, down_, head_;
  Tensor input_norm_, hidden_norm_, post_norm_, final_norm_;
};

}  // namespace aerie
