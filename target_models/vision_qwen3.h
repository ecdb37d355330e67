// Qwen3-VL (arXiv 2511.21631): a vision tower whose features enter the decoder, Qwen3 or its
// mixture of experts, at several depths (DeepStack, arXiv 2406.04334).
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

class HfJson;

/// What the configuration of its decoder implies: axes take turns, 24, 20 and 20 pairs of 64 where
/// the file does not say.
void read_qwen3_vl(const HfJson& file, ModelConfig& config);
void read_qwen3_vl_moe(const HfJson& file, ModelConfig& config);

/// The class has no choice in it; published files say the same.
inline constexpr const char* kQwen3VlMoeText = R"({"norm_topk_prob": true})";

std::unique_ptr<TargetModel> make_qwen3_vl(ModelConfig config, ParamStore store, at::Device device,
                                           at::ScalarType dtype);

}  // namespace aerie
