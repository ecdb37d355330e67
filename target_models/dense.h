// Decoder-only transformers: Llama's form and what differs from it by ModelConfig (biases, where
// heads are normalised, mixtures of experts, Gemma 3's norms and windows).
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

std::unique_ptr<TargetModel> make_dense(ModelConfig config, ParamStore store, at::Device device,
                                        at::ScalarType dtype);

}  // namespace aerie
