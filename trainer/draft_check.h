// Proof that a draft on disk is what it should be.
#pragma once
#include <filesystem>
#include <optional>

#include "draft_models/dialects.h"

namespace aerie {

/// Reads a draft of any dialect (a directory, or a GGUF file) with every check of its reader. Needs
/// no target: the draft says what it was made for. `ids`: how a directory that says nothing counts
/// layers.
LoadedDraft read_any_draft(const std::filesystem::path& place, std::optional<LayerIds> ids);

/// The same, and the draft computes finite logits; says so on the log.
LoadedDraft check_draft(const std::filesystem::path& place, std::optional<LayerIds> ids);

/// Logits of a fixed random prompt in bf16: rows attend causally, as in decoding. -> [N,W]
Tensor probe_logits(DraftConfig config, const DraftParams& params);

}  // namespace aerie
