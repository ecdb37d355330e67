// Which Hugging Face architectures Aerie runs: one row each, in registry.cpp.
#pragma once
#include <memory>
#include <string>

#include "target_models/dense.h"
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

class HfJson;

/// What a model_type implies without saying so in config.json, and who builds it.
struct Family {
  const char* model_type;
  bool qkv_bias = false;              ///< q, k and v projections have biases
  QkNorm qk_norm = QkNorm::kNone;     ///< q and k are normalised per head
  bool head_dim_from_hidden = false;  ///< head_dim may be missing: hidden_size / heads
  bool kv_heads_from_heads = false;  ///< num_key_value_heads may be missing: as many as query heads
  bool window_unless_null = false;   ///< a missing sliding_window means that there is one
  /// JSON of what text_config leaves out because it is the default of a Hugging Face class.
  const char* text_defaults = "{}";
  /// Reads the keys that only this family has, after all others; null: there are none.
  void (*read)(const HfJson& file, ModelConfig& config) = nullptr;
  std::unique_ptr<TargetModel> (*make)(ModelConfig, ParamStore, at::Device,
                                       at::ScalarType) = make_dense;
};

/// Throws Error listing the known types; `file` is where `model_type` stood.
const Family& find_family(const std::string& model_type, const std::string& file);

}  // namespace aerie
