#include "draft_models/dialects.h"

#include "common/error.h"
#include "common/files.h"
#include "data/safetensors.h"
#include "data/vocab_map.h"
#include "draft_models/draft_file.h"
#include "draft_models/file_tensors.h"
#include "draft_models/speculators_config.h"

namespace aerie {
namespace {

/// The tensors of both kinds of directory, under the plain dialect's names.
NamedTensors directory_tensors(const fs::path& directory, const DraftConfig& config,
                               const DraftParams& params, const VocabMap& vocab,
                               at::ScalarType dtype) {
  AERIE_CHECK(dtype == at::kBFloat16 || dtype == at::kFloat,
              "{}: a draft is saved in bfloat16 or float32, not in {}", directory.string(),
              c10::toString(dtype));
  check_vocab_map(config, vocab, directory.string());
  NamedTensors tensors = split_params(config, params, dtype, directory.string());
  tensors.emplace_back("d2t", d2t_offsets(vocab));
  tensors.emplace_back("t2d", vocab.target_to_draft.ge(0));
  return tensors;
}

const char* name_of(at::ScalarType dtype) { return dtype == at::kFloat ? "float32" : "bfloat16"; }

/// The config as it is written: with the hash of the map that stands beside it.
DraftConfig stamped(DraftConfig config, const VocabMap& vocab) {
  config.vocabulary_hash = vocabulary_hash(vocab.draft_to_target, config.vocab);
  return config;
}

void write_draft(const fs::path& directory, const NamedTensors& tensors, const std::string& json) {
  write_directory_atomic(directory, [&](const fs::path& place) {
    write_safetensors(place / "model.safetensors", tensors, {{"format", "pt"}});
    write_file_atomic(place / "config.json", json);
  });
}

}  // namespace

void save_draft(const fs::path& directory, const DraftConfig& config, const DraftParams& params,
                const VocabMap& vocab, at::ScalarType dtype, LayerIds ids) {
  write_draft(directory, directory_tensors(directory, config, params, vocab, dtype),
              draft_config_json(stamped(config, vocab), ids, name_of(dtype)));
}

void save_speculators_draft(const fs::path& directory, const DraftConfig& config,
                            const DraftParams& params, const VocabMap& vocab,
                            const Verifier& verifier, at::ScalarType dtype) {
  NamedTensors tensors = directory_tensors(directory, config, params, vocab, dtype);
  for (auto& [name, value] : tensors) {
    if (name.starts_with(kMidlayer)) name.replace(0, kMidlayer.size(), kLayer0);
  }
  write_draft(directory, tensors,
              speculators_config_json(stamped(config, vocab), verifier, name_of(dtype)));
}

LoadedDraft load_draft(const fs::path& directory, const ModelConfig& target,
                       std::optional<LayerIds> ids) {
  const DraftConfig config = read_draft_config(directory, ids);
  const std::string where = (directory / "config.json").string();
  DraftFile file(directory);
  return load_draft(file, config, target, where, Strictness::kOurs);
}

Eagle3Draft make_draft(const LoadedDraft& loaded, const TargetModel& target) {
  const Tensor embed = loaded.embed.defined() ? loaded.embed.to(target.device(), target.dtype())
                                              : target.embed_weight();
  return Eagle3Draft(loaded.config, loaded.params, embed, target.dtype());
}

}  // namespace aerie
