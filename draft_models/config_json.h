// Parts of a draft's config.json that its reader and the writers of several dialects share.
// Internal.
#pragma once
#include <nlohmann/json.hpp>

#include "draft_models/draft_config.h"

namespace aerie::config_json {

constexpr const char* kIdsKey = "eagle_aux_hidden_state_layer_ids";
// What the stamp calls the two ways of counting layers.
constexpr const char* kAfterLayersName = "residual stream after k layers";
constexpr const char* kOutputOfName = "output of layer i, 0-based";
// Keys of the stamp that only some drafts have.
constexpr const char* kTextVocab = "text_vocab";
constexpr const char* kInputEmbeds = "use_input_embeds";
// Of a draft whose body is Qwen3's, as vLLM calls it.
constexpr const char* kQwen3Architecture = "Eagle3Qwen3ForCausalLM";
// A layer type of transformers: it sees the latest tokens only.
constexpr const char* kSliding = "sliding_attention";

/// What a file that counts by `ids` adds to our number of a layer.
inline int64_t id_offset(LayerIds ids) { return ids == LayerIds::kAfterLayers ? 1 : 0; }
/// Throws Error, beginning with `where`, for layers (0-based) that are not the target's, not
/// ascending or not unique.
void check_layers(const std::vector<int64_t>& layers, int64_t target_layers,
                  const std::string& where);

/// The captured layers as a file that counts by `ids` writes them.
std::vector<int64_t> written_ids(const DraftConfig& config, LayerIds ids);
/// Sizes, rope in both forms and the body's flags.
nlohmann::ordered_json shape(const DraftConfig& config);
/// The private key "aerie": how this file counts layers, and what it means by them.
nlohmann::ordered_json stamp(const DraftConfig& config, LayerIds ids);

}  // namespace aerie::config_json
