// Qwen2-Audio (arXiv 2407.10759): a Whisper-style tower in front of Qwen2.
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

/// What its config.json leaves out of text_config: the defaults of Qwen2's class, as JSON.
inline constexpr const char* kQwen2AudioText = R"({"hidden_act": "silu", "hidden_size": 4096,
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32})";

std::unique_ptr<TargetModel> make_qwen2_audio(ModelConfig config, ParamStore store,
                                              at::Device device, at::ScalarType dtype);

}  // namespace aerie
