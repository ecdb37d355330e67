#include "draft_models/draft_config.h"

#include "common/error.h"
#include "draft_models/config_json.h"
#include "target_models/model.h"

namespace aerie {

namespace {

/// The target's own, but of HunyuanOCR's axes only the first, which counts tokens as text does:
/// that one is what vLLM feeds a draft without axes beside such a target, and the drafts that are
/// published for it (AngelSlim) have no others.
RopeConfig draft_rope(RopeConfig rope) {
  if (rope.per_dimension) {
    rope.sections.clear();
    rope.per_dimension = false;
  }
  return rope;
}

}  // namespace

void config_json::check_layers(const std::vector<int64_t>& layers, int64_t target_layers,
                               const std::string& where) {
  AERIE_CHECK(!layers.empty(), "{}: no layer ids: give at least one", where);
  for (size_t i = 0; i < layers.size(); ++i) {
    AERIE_CHECK(layers[i] >= 0 && layers[i] < target_layers,
                "{}: layer {} (0-based) is not one of the target's {} layers", where, layers[i],
                target_layers);
    AERIE_CHECK(i == 0 || layers[i] > layers[i - 1],
                "{}: layer ids [{}] must be ascending and each once, because the columns of fc "
                "follow them: sort them",
                where, fmt::join(layers, ","));
  }
}

DraftConfig draft_config_for(const ModelConfig& target, int64_t draft_vocab,
                             std::vector<int64_t> capture_layers) {
  if (capture_layers.empty()) capture_layers = default_capture_layers(target.layers);
  config_json::check_layers(capture_layers, target.layers, "draft.layer_ids");
  AERIE_CHECK(draft_vocab >= 1 && draft_vocab <= target.vocab,
              "draft.vocab_size is {}, and must be between 1 and the target's vocabulary of {}",
              draft_vocab, target.vocab);
  return {.hidden = target.hidden,
          .intermediate = target.intermediate,
          .heads = target.heads,
          .kv_heads = target.kv_heads,
          .head_dim = target.head_dim,
          .target_hidden = target.hidden,
          .target_layers = target.layers,
          .vocab = target.vocab,
          .draft_vocab = draft_vocab,
          .text_vocab = target.text_vocab,
          .max_position = target.max_position,
          .rms_norm_eps = target.rms_norm_eps,
          .rope = draft_rope(target.rope),
          .capture_layers = std::move(capture_layers)};
}

}  // namespace aerie
