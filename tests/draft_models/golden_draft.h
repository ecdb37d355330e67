// The golden draft of scripts/make_golden_models.py, as our types.
#pragma once
#include "draft_models/draft.h"
#include "tests/target_models/testing.h"

namespace aerie::testing {

inline DraftConfig golden_config() {
  return {.hidden = 32,
          .intermediate = 48,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 8,
          .target_hidden = 32,
          .target_layers = 8,
          .vocab = 96,
          .draft_vocab = 40,
          .max_position = 64,
          .rms_norm_eps = 1e-5,
          .rope = {.theta = 500000},
          .capture_layers = {1, 3, 4}};
}

using Values = std::map<std::string, Tensor>;

inline Values golden_values() { return read_values(golden_dir() / "draft.safetensors"); }

/// A golden tensor of `kind` (param, grad) under one of our names; files have kv and gate_up in
/// two.
inline Tensor golden_tensor(const Values& values, const std::string& kind,
                            const std::string& name) {
  const auto get = [&](const std::string& part) { return values.at(kind + "." + part); };
  if (name == "midlayer.self_attn.kv_proj.weight") {
    return at::cat(
        {get("midlayer.self_attn.k_proj.weight"), get("midlayer.self_attn.v_proj.weight")});
  }
  if (name == "midlayer.mlp.gate_up_proj.weight") {
    return at::cat({get("midlayer.mlp.gate_proj.weight"), get("midlayer.mlp.up_proj.weight")});
  }
  return get(name);
}

inline DraftParams golden_params(const Values& values) {
  DraftParams params;
  for (const ParamShape& param : draft_param_shapes(golden_config())) {
    params.tensors.emplace_back(param.name, golden_tensor(values, "param", param.name).clone());
  }
  return params;
}

/// What an import has to know of the golden draft's target.
inline ModelConfig small_target() {
  ModelConfig target;
  target.layers = 8;
  target.hidden = 32;
  target.vocab = 96;
  return target;
}

}  // namespace aerie::testing
