// Causal self-attention of a decoder layer, with or without a cache.
#pragma once
#include <string>

#include "target_models/model.h"
#include "target_models/params.h"

namespace aerie {

struct AttentionLayer {
  Tensor q_norm, k_norm;     ///< [D]; undefined: queries and keys are not normalised
  Tensor qkv_bias;           ///< [(H+2G)*D]; undefined: none
  ops::LinearWeight qkv, o;  ///< [(H+2G)*D,C], [C,H*D]
  int64_t window = 0;        ///< latest tokens that a row sees; 0: all
  double scale = 1;          ///< of the scores
};

/// The angles of a forward's rows.
struct HeadAngles {
  ops::RopeRows rows;
  /// HunyuanOCR, where axes differ: those of the second half of a head's dimensions (rope_axes);
  /// undefined elsewhere.
  ops::RopeRows second_half;
};

/// `prefix` ends in "self_attn.".
AttentionLayer load_attention(ParamStore& store, const ModelConfig& config, int64_t index,
                              const std::string& prefix, const Placement& placement);

/// x [N,C] normalised -> [N,C]; appends to `input.kv` as layer `index` where there are pages.
Tensor attend(const AttentionLayer& layer, const ModelConfig& config, int64_t index,
              const HeadAngles& angles, const Tensor& x, const ForwardInput& input);

}  // namespace aerie
