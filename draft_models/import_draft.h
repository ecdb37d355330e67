// Drafts of other trainers (EAGLE, SpecForge, TorchSpec, speculators, NeMo) and of Aerie, as a
// start for training.
#pragma once
#include <filesystem>
#include <vector>

#include "draft_models/dialects.h"

namespace aerie {

/// Reads a draft for further training. Beyond what load_draft reads it takes what trainers leave
/// behind: names with "model.", a config.json copied from the target (its number of layers, its
/// tied head), an embedding that is the target's, d2t without t2d, d2t in any order: the result's
/// vocabulary ascends, and the head's rows with it.
///
/// A file that does not say how it counts layers is understood if it has none (everybody's default:
/// the same layers), if one way of counting makes them the default, or if one makes them
/// `layer_ids` (ours: outputs of these layers; []: not given). Everything must agree with `target`.
/// Throws Error naming file, field and both values.
LoadedDraft import_draft(const std::filesystem::path& directory, const ModelConfig& target,
                         const std::vector<int64_t>& layer_ids);

/// A draft that brings an embedding must bring the target's: training shares that one. Throws Error
/// where they differ.
void check_embedding(const LoadedDraft& draft, const TargetModel& target,
                     const std::filesystem::path& directory);

}  // namespace aerie
