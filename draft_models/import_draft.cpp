#include "draft_models/import_draft.h"

#include <ATen/ops/arange.h>

#include "common/error.h"
#include "common/files.h"
#include "data/vocab_map.h"
#include "draft_models/config_json.h"
#include "draft_models/draft_file.h"
#include "draft_models/file_tensors.h"
#include "target_models/hf_json.h"

namespace aerie {
namespace {

using config_json::kIdsKey;
using nlohmann::json;
using Ids = std::vector<int64_t>;

// Pickled weights, which only Python reads.
constexpr const char* kPickled = "pytorch_model.bin";

void refuse_pickled(const fs::path& directory) {
  AERIE_CHECK(fs::exists(directory / "model.safetensors") ||
                  fs::exists(directory / "model.safetensors.index.json") ||
                  !fs::exists(directory / kPickled),
              "{} is pickled, and Aerie reads safetensors: convert it once, in Python: "
              "safetensors.torch.save_file(torch.load(\"{}\"), \"model.safetensors\")",
              (directory / kPickled).string(), kPickled);
}

Ids shifted(Ids ids, int64_t by) {
  for (int64_t& id : ids) id += by;
  return ids;
}

/// The ids that a foreign file writes, at either place; nothing if it writes none.
std::optional<Ids> written_ids(const HfJson& file) {
  if (file.has(kIdsKey)) return file.find<Ids>(kIdsKey);
  if (!file.has("eagle_config")) return std::nullopt;
  return file.section("eagle_config").find<Ids>(kIdsKey);
}

/// The captured layers of a file that does not say how it counts.
Ids resolve_ids(const HfJson& file, bool after_layers_for_sure, const ModelConfig& target,
                const Ids& layer_ids) {
  const auto written = written_ids(file);
  if (written && after_layers_for_sure) return shifted(*written, -1);
  if (!written) return layer_ids.empty() ? default_capture_layers(target.layers) : layer_ids;
  const Ids after_layers = shifted(*written, -1);
  const Ids& outputs_of = *written;
  const Ids wanted = !layer_ids.empty()   ? layer_ids
                     : target.layers >= 7 ? default_capture_layers(target.layers)
                                          : Ids{};
  if (after_layers == wanted || outputs_of == wanted) return wanted;
  AERIE_CHECK(
      layer_ids.empty(),
      "{}: \"{}\" is [{}], and draft.layer_ids [{}]: counted as vLLM does, the draft reads "
      "the outputs of layers [{}] (0-based), counted as SGLang, SpecForge and NeMo do, [{}]",
      file.where(), kIdsKey, fmt::join(*written, ","), fmt::join(layer_ids, ","),
      fmt::join(after_layers, ","), fmt::join(outputs_of, ","));
  fail(
      "{}: \"{}\" is [{}], and the file does not say how it counts: set draft.layer_ids to [{}] if "
      "it counts as vLLM and speculators, to [{}] if as SGLang, SpecForge and NeMo",
      file.where(), kIdsKey, fmt::join(*written, ","), fmt::join(after_layers, ","),
      fmt::join(outputs_of, ","));
}

/// What other trainers write, in the form that ours has.
HfJson adapted(const HfJson& written, bool speculators, const DraftFile& file,
               const ModelConfig& target, const Ids& layer_ids) {
  const auto architectures =
      written.find<std::vector<std::string>>("architectures").value_or(std::vector<std::string>{});
  const std::string architecture = architectures.empty() ? "" : architectures[0];
  AERIE_CHECK(
      architecture.find("Eagle3") != std::string::npos,
      "{}: \"architectures\" names \"{}\"; the draft to start from must be an EAGLE-3 draft "
      "(LlamaForCausalLMEagle3, Eagle3Speculator, LlamaEagle3DraftModel)",
      written.where(), architecture);
  const Ids ids = resolve_ids(written, speculators, target, layer_ids);
  json config = written.object();
  config["architectures"] = {"LlamaForCausalLMEagle3"};
  // Often copied from the target: the tensors tell what there is, and the head that stands in the
  // file is not tied.
  config["model_type"] = file.has("midlayer.self_attn.q_norm.weight") ? "qwen3" : "llama";
  int64_t layers = 1;
  while (file.has(layer_prefix(layers) + "input_layernorm.weight")) ++layers;
  config["num_hidden_layers"] = layers;
  config["tie_word_embeddings"] = false;
  if (!written.has("draft_vocab_size")) {
    config["draft_vocab_size"] = file.has("d2t") ? file.shape_of("d2t").at(0) : target.vocab;
  }
  config.erase("eagle_config");
  config[kIdsKey] = ids;
  config["aerie"] = {{"layer_ids", config_json::kOutputOfName},
                     {"capture_layers", ids},
                     {"target_layers", target.layers},
                     {config_json::kTextVocab, target.text_vocab}};
  return HfJson(std::move(config), written.where());
}

/// Ascending target ids; the head's rows follow.
void sort_vocabulary(LoadedDraft& draft) {
  const auto [ids, order] = draft.vocab.draft_to_target.sort();
  Tensor& head = draft.params.at("lm_head.weight");
  head = head.index_select(0, order);
  draft.vocab = make_vocab_map(ids, draft.config.vocab);
  draft.config.vocabulary_hash = vocabulary_hash(ids, draft.config.vocab);
}

}  // namespace

LoadedDraft import_draft(const fs::path& directory, const ModelConfig& target,
                         const Ids& layer_ids) {
  AERIE_CHECK(fs::is_directory(directory),
              "{} is no directory: give that of a draft (config.json, model.safetensors)",
              directory.string());
  refuse_pickled(directory);
  DraftFile file(directory);
  HfJson config = HfJson::read(directory / "config.json");
  const bool speculators = is_speculators(config);
  if (speculators) config = flatten_speculators(config);
  if (!config.has("aerie")) config = adapted(config, speculators, file, target, layer_ids);
  LoadedDraft draft = load_draft(file, draft_config_from(config, std::nullopt), target,
                                 config.where(), Strictness::kForeign);
  AERIE_CHECK(layer_ids.empty() || layer_ids == draft.config.capture_layers,
              "{}: the draft reads the outputs of layers [{}] (0-based), and draft.layer_ids is "
              "[{}]: make them equal, or leave draft.layer_ids empty",
              config.where(), fmt::join(draft.config.capture_layers, ","),
              fmt::join(layer_ids, ","));
  sort_vocabulary(draft);
  return draft;
}

void check_embedding(const LoadedDraft& draft, const TargetModel& target,
                     const fs::path& directory) {
  if (!draft.embed.defined()) return;
  const Tensor own = draft.embed.to(target.device(), target.dtype());
  AERIE_CHECK(own.equal(target.embed_weight()),
              "{}: \"embed_tokens.weight\" differs from the target's embedding: the draft was "
              "trained with another one, and Aerie's drafts share the target's",
              directory.string());
}

}  // namespace aerie
