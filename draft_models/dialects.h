// Drafts on disk as directories: the plain dialect that vLLM, SGLang and llama.cpp's converter read
// (config.json and model.safetensors under the names that EAGLE, vLLM and SGLang use), and the
// directory of the "speculators" library, which vLLM serves without further flags.
#pragma once
#include <filesystem>
#include <optional>

#include "draft_models/draft.h"
#include "draft_models/speculators_config.h"
#include "target_models/model.h"

namespace aerie {

struct LoadedDraft {
  DraftConfig config;
  DraftParams params;  ///< in the file's type
  VocabMap vocab;      ///< all ids where the draft's vocabulary is the target's
  Tensor embed;        ///< [V,C] the file's own embedding; undefined: the target's, as usual
};

/// Writes `directory` whole or not at all: weights in `dtype` (bf16 or f32), d2t as offsets, t2d,
/// layer ids counted as `ids`. Throws Error for a tensor that is missing, mis-shaped or not finite.
void save_draft(const std::filesystem::path& directory, const DraftConfig& config,
                const DraftParams& params, const VocabMap& vocab,
                at::ScalarType dtype = at::kBFloat16, LayerIds ids = LayerIds::kAfterLayers);

/// The same as a directory of the speculators library: tensors "layers.0.*", layer ids after k
/// layers, and the target's name in the config.
void save_speculators_draft(const std::filesystem::path& directory, const DraftConfig& config,
                            const DraftParams& params, const VocabMap& vocab,
                            const Verifier& verifier, at::ScalarType dtype = at::kBFloat16);

/// Reads a draft of either kind and proves it, because a serving engine does not: vLLM runs with
/// initial weights where a tensor is missing, and only the acceptance tells. Checked are every
/// name, shape and value (finite), d2t (one-to-one, inside the vocabulary), t2d == {i + d2t[i]},
/// the layer ids, and that the draft was made for `target`. Names may be midlayer.* or layers.0.*,
/// with or without "model.". `ids`: how a file that Aerie did not write counts layers. Throws Error
/// naming file, tensor and fix.
LoadedDraft load_draft(const std::filesystem::path& directory, const ModelConfig& target,
                       std::optional<LayerIds> ids = std::nullopt);

/// The draft of `loaded` for decoding with `target`, in the target's type.
Eagle3Draft make_draft(const LoadedDraft& loaded, const TargetModel& target);

}  // namespace aerie
