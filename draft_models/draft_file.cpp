#include "draft_models/draft_file.h"

#include <ATen/ops/arange.h>

#include "common/error.h"
#include "common/files.h"
#include "draft_models/file_tensors.h"

namespace aerie {
namespace {

std::string canonical(std::string name) {
  if (name.starts_with("model.")) name.erase(0, 6);
  if (name.starts_with(kLayer0)) name.replace(0, kLayer0.size(), kMidlayer);
  return name;
}

}  // namespace

DraftFile::DraftFile(const fs::path& directory) : store_(directory) {
  for (const std::string& actual : store_.names()) {
    const std::string name = canonical(actual);
    const bool added = actual_.emplace(name, actual).second;
    AERIE_CHECK(added, "{}: tensors \"{}\" and \"{}\" mean the same: remove one",
                store_.file_of(actual), actual_.at(name), actual);
  }
}

Tensor DraftFile::take(const std::string& name, at::IntArrayRef shape) {
  const Tensor tensor = store_.take(has(name) ? actual_.at(name) : name, shape);
  if (tensor.is_floating_point()) check_finite(tensor, name, file_of(name));
  return tensor;
}

Tensor DraftFile::take_integers(const std::string& name, int64_t size, at::ScalarType type) {
  const Tensor tensor = take(name, {size});
  AERIE_CHECK(tensor.scalar_type() == type,
              "{}: tensor \"{}\" is {} and must be {}: export it again", file_of(name), name,
              c10::toString(tensor.scalar_type()), c10::toString(type));
  return tensor;
}

void DraftFile::finish() const {
  store_.finish([](const std::string& name) { return name.ends_with("rotary_emb.inv_freq"); });
}

VocabMap read_vocab(DraftFile& file, const DraftConfig& config, Strictness strictness) {
  const Tensor own = at::arange(config.draft_vocab, at::kLong);
  if (!file.has("d2t") && !file.has("t2d") && config.draft_vocab == config.vocab) {
    return make_vocab_map(own, config.vocab);
  }
  const Tensor d2t = file.take_integers("d2t", config.draft_vocab, at::kLong);
  VocabMap vocab;
  try {
    vocab = make_vocab_map(own + d2t, config.vocab);
  } catch (const Error& error) {
    fail("{}: tensor \"d2t\": {}; it must hold offsets (target id - draft id): export it again",
         file.file_of("d2t"), error.what());
  }
  if (!file.has("t2d") && strictness == Strictness::kForeign) return vocab;
  const Tensor t2d = file.take_integers("t2d", config.vocab, at::kBool);
  AERIE_CHECK(vocab.target_to_draft.ge(0).equal(t2d),
              "{}: tensor \"t2d\" does not mark the ids that \"d2t\" reaches: export both again",
              file.file_of("t2d"));
  return vocab;
}

void check_belongs(const DraftConfig& draft, const ModelConfig& target, const std::string& file) {
  const auto same = [&](const char* key, int64_t ours, int64_t theirs) {
    AERIE_CHECK(ours == theirs,
                "{}: \"{}\" is {}, and the target's is {}: the draft was made for another target",
                file, key, ours, theirs);
  };
  same("vocab_size", draft.vocab, target.vocab);
  same("aerie.text_vocab", draft.text_vocab, target.text_vocab);
  same("target_hidden_size", draft.target_hidden, target.hidden);
  same("hidden_size", draft.hidden, target.hidden);
  if (draft.target_layers > 0) same("aerie.target_layers", draft.target_layers, target.layers);
  AERIE_CHECK(
      draft.capture_layers.back() < target.layers,
      "{}: the draft captures layer {} (0-based), and the target has {} layers: it was made "
      "for another target",
      file, draft.capture_layers.back(), target.layers);
}

LoadedDraft load_draft(DraftFile& file, const DraftConfig& config, const ModelConfig& target,
                       const std::string& where, Strictness strictness) {
  check_belongs(config, target, where);
  LoadedDraft draft;
  draft.config = config;
  draft.config.target_layers = target.layers;
  draft.params = join_params(config, [&](const std::string& name, at::IntArrayRef shape) {
    return file.take(name, shape);
  });
  draft.vocab = read_vocab(file, config, strictness);
  check_hash(config, draft.vocab, where);
  if (file.has("embed_tokens.weight")) {
    draft.embed =
        file.take("embed_tokens.weight", {config.vocab + config.text_vocab, config.hidden}).clone();
  }
  file.finish();
  return draft;
}

}  // namespace aerie
