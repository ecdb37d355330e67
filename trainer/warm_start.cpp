#include "trainer/warm_start.h"

#include "common/error.h"
#include "common/files.h"
#include "data/vocab_map.h"
#include "draft_models/import_draft.h"
#include "trainer/checkpoint.h"

namespace aerie {

std::optional<LoadedDraft> initial_draft(const RunConfig& config,
                                         const std::optional<fs::path>& resumed) {
  if (config.train.init_from.empty()) return std::nullopt;
  // A checkpoint of a run holds its draft one floor down.
  const fs::path& named = resumed ? *resumed : config.train.init_from;
  const bool checkpoint = fs::exists(named / "state.json");
  const fs::path place = checkpoint ? named / "draft" : named;
  const ModelConfig target = read_model_config(config.target.path);
  LoadedDraft draft = import_draft(place, target, config.draft.layer_ids);
  AERIE_CHECK(
      draft.config.draft_vocab == config.draft.vocab_size,
      "draft.vocab_size is {}, and the draft that train.init_from names ({}) has {} tokens: "
      "set draft.vocab_size to {}",
      config.draft.vocab_size, place.string(), draft.config.draft_vocab, draft.config.draft_vocab);
  if (checkpoint) draft.params = read_result(named);
  // Weights of any draft can learn to look back less far.
  if (config.draft.window > 0) draft.config.window = config.draft.window;
  return draft;
}

DraftParams masters_of(const LoadedDraft& draft) {
  DraftParams masters;
  for (const auto& [name, tensor] : draft.params.tensors) {
    masters.tensors.emplace_back(name, tensor.to(at::kCPU, at::kFloat, false, /*copy=*/true));
  }
  return masters;
}

DraftVocabulary vocabulary_of(const LoadedDraft& draft) {
  const Tensor& ids = draft.vocab.draft_to_target;
  return {ids, draft.config.vocab, vocabulary_hash(ids, draft.config.vocab)};
}

}  // namespace aerie
