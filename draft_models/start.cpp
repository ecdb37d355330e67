#include "draft_models/start.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/normal.h>
#include <ATen/ops/zeros.h>

#include "common/error.h"
#include "common/files.h"

namespace aerie {
namespace {

// Of weights that have no counterpart in the target: enough to break symmetry. What fc adds to the
// features it passes on is smaller, because it is summed over three times as many inputs.
constexpr double kNoise = 0.02, kFuseNoise = 0.005;

Tensor noise(at::IntArrayRef shape, double deviation, const std::string& name, uint64_t seed) {
  return at::normal(0.0, deviation, shape, at::detail::createCPUGenerator(hash_bytes(name, seed)));
}

/// [R,C] on the features -> [R,2C] on [embedding | features]
Tensor beside_embedding(const Tensor& weight, const std::string& name, uint64_t seed) {
  const Tensor features = weight.to(at::kFloat);
  return at::cat({noise(features.sizes(), kNoise, name, seed), features}, 1);
}

/// [C,A*C]: the latest of the captured layers passes through
Tensor pass_latest(int64_t hidden, int64_t captured, uint64_t seed) {
  Tensor fc = noise({hidden, captured}, kFuseNoise, "fc.weight", seed);
  fc.narrow(1, captured - hidden, hidden).add_(at::eye(hidden));
  return fc;
}

}  // namespace

DraftStart start_from_head(const TargetModel& target, const VocabMap& vocab) {
  return {{"lm_head.weight", target.head_rows(vocab.draft_to_target)}};
}

DraftStart start_from_layer(const DraftConfig& config, const TargetModel& target, uint64_t seed) {
  const std::optional<LastLayer> last = target.last_layer();
  AERIE_CHECK(last,
              "draft.init is 'target', but the layers of a {} are not of the draft's form: set "
              "draft.init to head",
              target.config().model_type);
  const std::string layer = "midlayer.", attn = layer + "self_attn.";
  const int64_t captured =
      static_cast<int64_t>(config.capture_layers.size()) * config.target_hidden;
  DraftStart start{
      {"fc.weight", pass_latest(config.hidden, captured, seed)},
      {layer + "hidden_norm.weight", last->input_norm},
      {layer + "post_attention_layernorm.weight", last->post_norm},
      {attn + "o_proj.weight", last->o},
      {layer + "mlp.gate_up_proj.weight", at::cat({last->gate, last->up})},
      {layer + "mlp.down_proj.weight", last->down},
      {"norm.weight", last->final_norm},
  };
  // Further layers begin as the identity, and find their use.
  for (int64_t i = 1; i < config.layers; ++i) {
    start[layer_prefix(i) + "self_attn.o_proj.weight"] = at::zeros(last->o.sizes());
    start[layer_prefix(i) + "mlp.down_proj.weight"] = at::zeros(last->down.sizes());
  }
  const bool alike = config.qk_norm ? last->q_norm.defined() : !last->qk_norm;
  if (alike) {
    const std::string q = attn + "q_proj.weight", kv = attn + "kv_proj.weight";
    start[q] = beside_embedding(last->q, q, seed);
    start[kv] = beside_embedding(at::cat({last->k, last->v}), kv, seed);
  }
  if (alike && config.qk_norm) {
    start[attn + "q_norm.weight"] = last->q_norm;
    start[attn + "k_norm.weight"] = last->k_norm;
  }
  return start;
}

}  // namespace aerie
