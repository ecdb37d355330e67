// Parts of a draft's config.json that several dialects write. Internal.
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

/// The captured layers as a file that counts by `ids` writes them.
std::vector<int64_t> written_ids(const DraftConfig& config, LayerIds ids);
/// Sizes, rope in both forms and the body's flags.
nlohmann::ordered_json shape(const DraftConfig& config);
/// The private key "aerie": how this file counts layers, and what it means by them.
nlohmann::ordered_json stamp(const DraftConfig& config, LayerIds ids);

}  // namespace aerie::config_json
