// The shape of an EAGLE-3 draft and its config.json, plain dialect (what vLLM and SGLang load;
// eagle3.md §2.2).
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "target_models/config.h"

namespace aerie {

struct DraftConfig {
  int64_t hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t target_hidden = 0, target_layers = 0;
  int64_t vocab = 0, draft_vocab = 0;  ///< V and W
  int64_t max_position = 0;
  double rms_norm_eps = 0;
  RopeConfig rope;
  std::vector<int64_t>
      capture_layers;  ///< 0-based, output of layer i (our convention; files state theirs)
};

/// A draft of the target's own shape: one decoder layer, `draft_vocab` rows of head, the target's
/// rope.
DraftConfig draft_config_for(const ModelConfig& target, int64_t draft_vocab,
                             std::vector<int64_t> capture_layers);

}  // namespace aerie
