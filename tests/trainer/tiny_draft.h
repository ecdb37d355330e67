// The smallest draft that has every part: grouped heads, a reduced vocabulary, three captured
// layers.
#pragma once
#include "draft_models/draft_config.h"

namespace aerie::testing {

inline DraftConfig tiny_draft(int64_t hidden, int64_t vocab, int64_t draft_vocab) {
  DraftConfig config;
  config.hidden = config.target_hidden = hidden;
  config.intermediate = hidden * 3 / 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.target_layers = 8;
  config.vocab = vocab;
  config.draft_vocab = draft_vocab;
  config.max_position = 128;
  config.rms_norm_eps = 1e-5;
  config.capture_layers = {1, 3, 5};
  return config;
}

}  // namespace aerie::testing
