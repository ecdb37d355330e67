// HunyuanOCR: a vision tower of SigLIP's form in front of Hunyuan's dense decoder with a RoPE of
// four axes (xdrope).
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

class HfJson;

/// What the configuration of its decoder implies.
void read_hunyuan_vl(const HfJson& file, ModelConfig& config);

/// The default of its class.
inline constexpr const char* kHunyuanVlText = R"({"tie_word_embeddings": true})";

std::unique_ptr<TargetModel> make_hunyuan_vl(ModelConfig config, ParamStore store,
                                             at::Device device, at::ScalarType dtype);

}  // namespace aerie
