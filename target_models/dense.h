// Dense decoder-only transformers of Llama's form: Llama, SmolLM2, Mistral, Qwen2 (biases on q, k
// and v), Qwen3 (q and k normalised per head).
#pragma once
#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

std::unique_ptr<TargetModel> make_dense(ModelConfig config, ParamStore store, at::Device device,
                                        at::ScalarType dtype);

}  // namespace aerie
