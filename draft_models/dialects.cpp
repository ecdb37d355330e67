#include "draft_models/dialects.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/isfinite.h>

#include <map>

#include "common/error.h"
#include "common/files.h"
#include "data/safetensors.h"
#include "target_models/params.h"

namespace aerie {
namespace {

/// Our tensors that files keep as two, the first half of the rows and the second.
struct Joined {
  const char *ours, *first, *second;
};
constexpr Joined kJoined[] = {
    {"midlayer.self_attn.kv_proj.weight", "midlayer.self_attn.k_proj.weight",
     "midlayer.self_attn.v_proj.weight"},
    {"midlayer.mlp.gate_up_proj.weight", "midlayer.mlp.gate_proj.weight",
     "midlayer.mlp.up_proj.weight"},
};

const Joined* find_joined(const std::string& name) {
  for (const Joined& joined : kJoined) {
    if (name == joined.ours) return &joined;
  }
  return nullptr;
}

void check_finite(const Tensor& tensor, const std::string& name, const std::string& file) {
  AERIE_CHECK(at::isfinite(tensor).all().item<bool>(),
              "{}: tensor \"{}\" holds NaN or infinity: the file is damaged or the training "
              "diverged; export an earlier checkpoint",
              file, name);
}

/// A draft file's tensors under the names of `draft_param_shapes`.
class DraftFile {
 public:
  explicit DraftFile(const fs::path& directory) : store_(directory) {
    for (const std::string& actual : store_.names()) {
      const std::string name = canonical(actual);
      const bool added = actual_.emplace(name, actual).second;
      AERIE_CHECK(added, "{}: tensors \"{}\" and \"{}\" mean the same: remove one",
                  store_.file_of(actual), actual_.at(name), actual);
    }
  }

  bool has(const std::string& name) const { return actual_.count(name) != 0; }
  std::string file_of(const std::string& name) const { return store_.file_of(actual_.at(name)); }

  Tensor take(const std::string& name, at::IntArrayRef shape) {
    const Tensor tensor = store_.take(has(name) ? actual_.at(name) : name, shape);
    if (tensor.is_floating_point()) check_finite(tensor, name, file_of(name));
    return tensor;
  }
  /// A copy of its own, two halves joined.
  Tensor take_param(const ParamShape& param) {
    const Joined* joined = find_joined(param.name);
    if (joined == nullptr) return take(param.name, param.shape).clone();
    const std::vector<int64_t> half{param.shape[0] / 2, param.shape[1]};
    return at::cat({take(joined->first, half), take(joined->second, half)});
  }
  Tensor take_integers(const std::string& name, int64_t size, at::ScalarType type) {
    const Tensor tensor = take(name, {size});
    AERIE_CHECK(tensor.scalar_type() == type,
                "{}: tensor \"{}\" is {} and must be {}: export it again", file_of(name), name,
                c10::toString(tensor.scalar_type()), c10::toString(type));
    return tensor;
  }
  void finish() const {
    store_.finish([](const std::string& name) { return name.ends_with("rotary_emb.inv_freq"); });
  }

 private:
  static std::string canonical(std::string name) {
    if (name.starts_with("model.")) name.erase(0, 6);
    if (name.starts_with("layers.0.")) name.replace(0, 9, "midlayer.");
    return name;
  }

  ParamStore store_;
  std::map<std::string, std::string> actual_;  // our name -> the file's
};

VocabMap read_vocab(DraftFile& file, const DraftConfig& config) {
  const Tensor own = at::arange(config.draft_vocab, at::kLong);
  if (!file.has("d2t") && !file.has("t2d") && config.draft_vocab == config.vocab) {
    return make_vocab_map(own, config.vocab);
  }
  const Tensor d2t = file.take_integers("d2t", config.draft_vocab, at::kLong);
  const Tensor t2d = file.take_integers("t2d", config.vocab, at::kBool);
  VocabMap vocab;
  try {
    vocab = make_vocab_map(own + d2t, config.vocab);
  } catch (const Error& error) {
    fail("{}: tensor \"d2t\": {}; it must hold offsets (target id - draft id): export it again",
         file.file_of("d2t"), error.what());
  }
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
  same("target_hidden_size", draft.target_hidden, target.hidden);
  same("hidden_size", draft.hidden, target.hidden);
  if (draft.target_layers > 0) same("aerie.target_layers", draft.target_layers, target.layers);
  AERIE_CHECK(
      draft.capture_layers.back() < target.layers,
      "{}: the draft captures layer {} (0-based), and the target has {} layers: it was made "
      "for another target",
      file, draft.capture_layers.back(), target.layers);
}

Tensor offsets(const VocabMap& vocab) {
  return vocab.draft_to_target - at::arange(vocab.draft_to_target.numel(), at::kLong);
}

}  // namespace

void save_draft(const fs::path& directory, const DraftConfig& config, const DraftParams& params,
                const VocabMap& vocab, at::ScalarType dtype, LayerIds ids) {
  AERIE_CHECK(dtype == at::kBFloat16 || dtype == at::kFloat,
              "{}: a draft is saved in bfloat16 or float32, not in {}", directory.string(),
              c10::toString(dtype));
  AERIE_CHECK(vocab.draft_to_target.numel() == config.draft_vocab &&
                  vocab.target_to_draft.numel() == config.vocab,
              "{}: the vocabulary map has {} of {} ids, the draft's config {} of {}",
              directory.string(), vocab.draft_to_target.numel(), vocab.target_to_draft.numel(),
              config.draft_vocab, config.vocab);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const ParamShape& param : draft_param_shapes(config)) {
    const Tensor value = params.at(param.name).detach().to(at::kCPU, dtype).contiguous();
    AERIE_CHECK(value.sizes() == at::IntArrayRef(param.shape),
                "{}: tensor \"{}\" has shape [{}] where the config implies [{}]",
                directory.string(), param.name, fmt::join(value.sizes(), ","),
                fmt::join(param.shape, ","));
    check_finite(value, param.name, directory.string());
    if (const Joined* joined = find_joined(param.name)) {
      const auto halves = value.chunk(2, 0);
      tensors.emplace_back(joined->first, halves[0]);
      tensors.emplace_back(joined->second, halves[1]);
    } else {
      tensors.emplace_back(param.name, value);
    }
  }
  tensors.emplace_back("d2t", offsets(vocab));
  tensors.emplace_back("t2d", vocab.target_to_draft.ge(0));
  const std::string name = dtype == at::kFloat ? "float32" : "bfloat16";
  write_directory_atomic(directory, [&](const fs::path& place) {
    write_safetensors(place / "model.safetensors", tensors, {{"format", "pt"}});
    write_file_atomic(place / "config.json", draft_config_json(config, ids, name));
  });
}

LoadedDraft load_draft(const fs::path& directory, const ModelConfig& target,
                       std::optional<LayerIds> ids) {
  LoadedDraft draft;
  draft.config = read_draft_config(directory, ids);
  check_belongs(draft.config, target, (directory / "config.json").string());
  draft.config.target_layers = target.layers;
  DraftFile file(directory);
  for (const ParamShape& param : draft_param_shapes(draft.config)) {
    draft.params.tensors.emplace_back(param.name, file.take_param(param));
  }
  draft.vocab = read_vocab(file, draft.config);
  if (file.has("embed_tokens.weight")) {
    draft.embed =
        file.take("embed_tokens.weight", {draft.config.vocab, draft.config.hidden}).clone();
  }
  file.finish();
  return draft;
}

Eagle3Draft make_draft(const LoadedDraft& loaded, const TargetModel& target) {
  const Tensor embed = loaded.embed.defined() ? loaded.embed.to(target.device(), target.dtype())
                                              : target.embed_weight();
  return Eagle3Draft(loaded.config, loaded.params, embed, target.dtype());
}

}  // namespace aerie
