// Which Hugging Face architectures Aerie runs: one row each, in registry.cpp.
#pragma once
#include <memory>
#include <string>

#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

/// What a model_type implies without saying so in config.json, and who builds it.
struct Family {
  const char* model_type;
  bool qkv_bias;              ///< q, k and v projections have biases
  bool qk_norm;               ///< q and k are normalised per head
  bool head_dim_from_hidden;  ///< head_dim may be missing: hidden_size / num_attention_heads
  bool kv_heads_from_heads;   ///< num_key_value_heads may be missing: as many as query heads
  bool window_unless_null;    ///< a missing sliding_window means that there is one
  std::unique_ptr<TargetModel> (*make)(ModelConfig, ParamStore, at::Device, at::ScalarType);
};

/// Throws Error listing the known types; `file` is where `model_type` stood.
const Family& find_family(const std::string& model_type, const std::string& file);

}  // namespace aerie
