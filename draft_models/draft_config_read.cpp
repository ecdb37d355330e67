// What a draft's config.json says, or why it is not one of ours.
#include <algorithm>
#include <limits>

#include "common/error.h"
#include "draft_models/config_json.h"
#include "draft_models/speculators_config.h"
#include "target_models/hf_json.h"
#include "target_models/model.h"

namespace aerie {
namespace {

namespace fs = std::filesystem;
using namespace config_json;

/// What would change the forward pass if it were ignored.
void refuse_unknown_variants(const HfJson& file) {
  const std::string& where = file.where();
  const std::string name = file.require<std::vector<std::string>>("architectures").at(0);
  AERIE_CHECK(name == "LlamaForCausalLMEagle3" || name == "Eagle3LlamaForCausalLM" ||
                  name == kQwen3Architecture,
              "{}: \"architectures\" names \"{}\"; an EAGLE-3 draft in the plain dialect is a "
              "LlamaForCausalLMEagle3 or a {}",
              where, name, kQwen3Architecture);
  const HfJson inner = file.has("eagle_config") ? file.section("eagle_config") : HfJson({}, where);
  const bool norm_before_fc = file.find<bool>("norm_before_fc").value_or(false) ||
                              inner.find<bool>("norm_before_fc").value_or(false);
  AERIE_CHECK(
      !norm_before_fc,
      "{}: \"norm_before_fc\" is true, and this variant of EAGLE-3 is not supported (fc_norm "
      "is)",
      where);
  AERIE_CHECK(inner.find<bool>("use_aux_hidden_state").value_or(true),
              "{}: eagle_config: \"use_aux_hidden_state\" is false: that is EAGLE-1/2, not EAGLE-3",
              where);
  AERIE_CHECK(!file.find<bool>("tie_word_embeddings").value_or(false),
              "{}: \"tie_word_embeddings\" must be false: a draft has a head of its own", where);
}

// What a file says about windows: vLLM looks at layer_types, and at sliding_window where these ask
// for it; classes of transformers look at the flag, too.
constexpr const char* kWindowKeys[] = {"layer_types", "sliding_window", "use_sliding_window"};

/// The window of all layers. A file without layer_types has none, or is refused with its body.
int64_t read_window(const HfJson& file, int64_t layers) {
  const auto types = file.find<std::vector<std::string>>("layer_types");
  if (!types) return 0;
  AERIE_CHECK(static_cast<int64_t>(types->size()) >= layers,
              "{}: \"layer_types\" names {} layers, and the draft has {}", file.where(),
              types->size(), layers);
  const auto last = types->begin() + layers;
  const auto sliding = std::count(types->begin(), last, kSliding);
  const auto full = std::count(types->begin(), last, "full_attention");
  AERIE_CHECK(
      sliding == layers || full == layers,
      "{}: \"layer_types\" is [{}]; the layers of a draft are all \"full_attention\" or all "
      "\"{}\"",
      file.where(), fmt::join(*types, ", "), kSliding);
  return sliding > 0 ? file.require_size("sliding_window") : 0;
}

/// The file as a body that attends in full, for the reader of targets.
HfJson without_window(const HfJson& file) {
  if (!file.has("layer_types")) return file;
  nlohmann::json body = file.object();
  for (const char* key : kWindowKeys) body.erase(key);
  return {std::move(body), file.where()};
}

void read_variants(const HfJson& file, const ModelConfig& body, DraftConfig& config) {
  const auto flag = [&](const char* key) { return file.find<bool>(key).value_or(false); };
  config.layers = body.layers;
  config.qk_norm = body.qk_norm == QkNorm::kBeforeRope;
  config.fc_norm = flag("fc_norm");
  config.norm_output = flag("norm_output");
  config.norm_before_residual = flag("norm_before_residual");
  config.window = read_window(file, body.layers);
  AERIE_CHECK(!body.qkv_bias && body.qk_norm != QkNorm::kAfterRope,
              "{}: \"model_type\" is \"{}\"; a draft's body is llama or qwen3", file.where(),
              body.model_type);
}

std::vector<int64_t> read_ids(const HfJson& file) {
  const auto top = file.find<std::vector<int64_t>>(kIdsKey);
  std::optional<std::vector<int64_t>> inner;
  if (file.has("eagle_config")) {
    inner = file.section("eagle_config").find<std::vector<int64_t>>(kIdsKey);
  }
  AERIE_CHECK(top || inner, "{}: the key \"{}\" is missing: add it", file.where(), kIdsKey);
  AERIE_CHECK(
      !top || !inner || *top == *inner,
      "{}: \"{}\" differs between the top level [{}] and eagle_config [{}]: make them equal",
      file.where(), kIdsKey, fmt::join(*top, ","), fmt::join(*inner, ","));
  return top ? *top : *inner;
}

/// The convention that our stamp states, or the caller's word for other files.
LayerIds read_convention(const HfJson& file, std::optional<LayerIds> ids) {
  if (!file.has("aerie")) {
    AERIE_CHECK(ids.has_value(),
                "{}: the file does not say how \"{}\" counts layers, and loaders disagree: state "
                "the convention (after k layers as vLLM, or output of layer i as SGLang)",
                file.where(), kIdsKey);
    return *ids;
  }
  const std::string name = file.section("aerie").require<std::string>("layer_ids");
  if (name == kAfterLayersName) return LayerIds::kAfterLayers;
  AERIE_CHECK(name == kOutputOfName,
              "{}: aerie: \"layer_ids\" is \"{}\" and must be \"{}\" or \"{}\"", file.where(), name,
              kAfterLayersName, kOutputOfName);
  return LayerIds::kOutputOfLayer;
}

}  // namespace

DraftConfig read_draft_config(const fs::path& directory, std::optional<LayerIds> ids) {
  AERIE_CHECK(fs::exists(directory / "config.json") || !fs::exists(directory / "draft/config.json"),
              "{} is a training run or a checkpoint of one, not a draft: give the draft in it, {}",
              directory.string(), (directory / "draft").string());
  const HfJson written = HfJson::read(directory / "config.json");
  const bool speculators = is_speculators(written);
  const HfJson file = speculators ? flatten_speculators(written) : written;
  if (speculators) ids = LayerIds::kAfterLayers;
  return draft_config_from(file, ids);
}

DraftConfig draft_config_from(const HfJson& file, std::optional<LayerIds> ids) {
  const ModelConfig body = model_config_from(without_window(file));
  refuse_unknown_variants(file);
  DraftConfig config = draft_config_for(body, file.require_size("draft_vocab_size"), {0});
  read_variants(file, body, config);
  config.target_hidden =
      file.has("target_hidden_size") ? file.require_size("target_hidden_size") : config.hidden;
  config.capture_layers = read_ids(file);
  const int64_t offset = id_offset(read_convention(file, ids));
  for (int64_t& id : config.capture_layers) id -= offset;
  config.target_layers = 0;  // other files do not say
  if (file.has("aerie")) {
    const HfJson stamp = file.section("aerie");
    config.target_layers = stamp.require_size("target_layers");
    config.vocabulary_hash = stamp.find<std::string>("vocabulary").value_or("");
    config.text_vocab = stamp.find<int64_t>(kTextVocab).value_or(0);
    config.use_input_embeds = stamp.find<bool>(kInputEmbeds).value_or(false);
    const auto ours = stamp.require<std::vector<int64_t>>("capture_layers");
    AERIE_CHECK(ours == config.capture_layers,
                "{}: \"{}\" means the outputs of layers [{}], but aerie.capture_layers says [{}]: "
                "export the draft again",
                file.where(), kIdsKey, fmt::join(config.capture_layers, ","), fmt::join(ours, ","));
  }
  const int64_t unknown = std::numeric_limits<int64_t>::max();
  check_layers(config.capture_layers, config.target_layers > 0 ? config.target_layers : unknown,
               fmt::format("{}: {}", file.where(), kIdsKey));
  return config;
}

}  // namespace aerie
