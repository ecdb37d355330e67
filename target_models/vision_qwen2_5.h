// Qwen2.5-VL (arXiv 2502.13923): a vision tower that attends in windows, in front of Qwen2.
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

std::unique_ptr<TargetModel> make_qwen2_5_vl(ModelConfig config, ParamStore store,
                                             at::Device device, at::ScalarType dtype);

}  // namespace aerie
