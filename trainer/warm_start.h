// A run that starts from another draft's weights.
#pragma once
#include <optional>

#include "configs/run_config.h"
#include "data/prepare.h"
#include "draft_models/dialects.h"

namespace aerie {

/// The draft of train.init_from (draft_models/import_draft.h), checked against the run: its size of
/// vocabulary is draft.vocab_size, its layers are draft.layer_ids where those are given. Where the
/// run goes on from the checkpoint `resumed`, the checkpoint's own draft stands for it. Nothing if
/// train.init_from is empty. The run then has this draft's shape, rope and vocabulary.
std::optional<LoadedDraft> initial_draft(const RunConfig& config,
                                         const std::optional<std::filesystem::path>& resumed);

/// f32 masters of their own.
DraftParams masters_of(const LoadedDraft& draft);

/// The draft's vocabulary as `prepare` keeps it beside the data.
DraftVocabulary vocabulary_of(const LoadedDraft& draft);

}  // namespace aerie
