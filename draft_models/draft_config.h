// The shape of an EAGLE-3 draft and its config.json, plain dialect (what vLLM, SGLang and
// llama.cpp's converter load).
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "target_models/config.h"

namespace aerie {

struct DraftConfig {
  int64_t hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int64_t target_hidden = 0;
  int64_t target_layers = 0;           ///< 0: the file does not say
  int64_t vocab = 0, draft_vocab = 0;  ///< V and W
  int64_t text_vocab = 0;  ///< the target's (ModelConfig): further rows of its embedding
  int64_t max_position = 0;
  double rms_norm_eps = 0;
  RopeConfig rope;
  std::vector<int64_t>
      capture_layers;  ///< 0-based, output of layer i (our convention; files state theirs)
  std::string vocabulary_hash = {};  ///< of the map beside it (data/vocab_map.h); "": not stated
  int64_t layers =
      1;  ///< decoder layers: the first reads [embedding | features], the others a state
  bool qk_norm = false;      ///< Qwen3's body: queries and keys are normed per head, before rope
  bool fc_norm = false;      ///< EAGLE-3.1: each captured layer is normed before fc
  bool norm_output = false;  ///< EAGLE-3.1: the state is fed back after the final norm
  bool norm_before_residual = false;  ///< the residual stream starts from the normed features
  /// At media positions the draft reads the target's input embedding, not its placeholder's.
  bool use_input_embeds = false;
  int64_t window = 0;  ///< latest tokens that every layer's rows see, themselves included; 0: all
};

/// How a file counts auxiliary layers. Both name the same layers; only the label differs.
enum class LayerIds {
  kAfterLayers,    ///< vLLM, speculators, llama.cpp: k = the residual stream after k layers
  kOutputOfLayer,  ///< SGLang, SpecForge: i = output of layer i, 0-based
};

/// A draft of the target's own shape: one decoder layer, `draft_vocab` rows of head, the target's
/// rope (of HunyuanOCR's axes the first, which counts tokens). Empty `capture_layers`: the default
/// of target_models. Throws Error for ids that are not ascending layers of the target or a draft
/// vocabulary that is larger than the target's.
DraftConfig draft_config_for(const ModelConfig& target, int64_t draft_vocab,
                             std::vector<int64_t> capture_layers);

/// config.json of `config`, ids counted as `ids`; `dtype` is "bfloat16" or "float32". Whatever a
/// loader might guess is written out: rope in both forms, norm flags, layer ids in both places.
std::string draft_config_json(const DraftConfig& config, LayerIds ids, const std::string& dtype);

class HfJson;

/// Reads DIR/config.json. Files that Aerie wrote say how they count layers; for others `ids` must
/// say it. Throws Error naming file, key and fix for anything that this draft is not (norm flags,
/// several layers, other bodies) and for ids that are not sorted, unique and inside the target.
DraftConfig read_draft_config(const std::filesystem::path& directory,
                              std::optional<LayerIds> ids = std::nullopt);
/// The same for a configuration in the plain dialect's form that was read already.
DraftConfig draft_config_from(const HfJson& file, std::optional<LayerIds> ids);

}  // namespace aerie
