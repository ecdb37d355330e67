#include "draft_models/draft_config.h"

#include <algorithm>
#include <limits>

#include "common/error.h"
#include "draft_models/config_json.h"
#include "draft_models/speculators_config.h"
#include "target_models/hf_json.h"
#include "target_models/model.h"

namespace aerie {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

using config_json::kAfterLayersName;
using config_json::kIdsKey;
using config_json::kInputEmbeds;
using config_json::kOutputOfName;
using config_json::kTextVocab;

// Of a draft whose body is Qwen3's, as vLLM calls it.
constexpr const char* kQwen3Architecture = "Eagle3Qwen3ForCausalLM";

int64_t id_offset(LayerIds ids) { return ids == LayerIds::kAfterLayers ? 1 : 0; }

/// What is at its default is left out: loaders infer the rest from it as we do.
void add_yarn(const RopeConfig& rope, ordered_json& json) {
  json["beta_fast"] = rope.beta_fast;
  json["beta_slow"] = rope.beta_slow;
  if (!rope.truncate) json["truncate"] = false;
  if (rope.attention_factor > 0) json["attention_factor"] = rope.attention_factor;
  if (rope.mscale > 0) json["mscale"] = rope.mscale;
  if (rope.mscale_all_dim > 0) json["mscale_all_dim"] = rope.mscale_all_dim;
}

/// transformers 5's form; `with_theta` false gives transformers 4's rope_scaling.
ordered_json rope_json(const RopeConfig& rope, bool with_theta) {
  ordered_json json{{"rope_type", rope.type}};
  if (with_theta) json["rope_theta"] = rope.theta;
  if (rope.type != "default") json["factor"] = rope.factor;
  if (rope.alpha > 0) json["alpha"] = rope.alpha;
  if (rope.type == "llama3") {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.type == "yarn") add_yarn(rope, json);
  if (rope.type == "llama3" || rope.type == "yarn") {
    json["original_max_position_embeddings"] = rope.original_max_position;
  }
  if (rope.axes() > 1) {
    json["mrope_section"] = rope.sections;
    json["mrope_interleaved"] = rope.interleaved;
  }
  return json;
}

void check_layers(const std::vector<int64_t>& layers, int64_t target_layers,
                  const std::string& where) {
  AERIE_CHECK(!layers.empty(), "{}: no layer ids: give at least one", where);
  for (size_t i = 0; i < layers.size(); ++i) {
    AERIE_CHECK(layers[i] >= 0 && layers[i] < target_layers,
                "{}: layer {} (0-based) is not one of the target's {} layers", where, layers[i],
                target_layers);
    AERIE_CHECK(i == 0 || layers[i] > layers[i - 1],
                "{}: layer ids [{}] must be ascending and each once, because the columns of fc "
                "follow them: sort them",
                where, fmt::join(layers, ","));
  }
}

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

constexpr const char* kSliding = "sliding_attention";
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

/// The target's own, but of HunyuanOCR's axes only the first, which counts tokens as text does:
/// that one is what vLLM feeds a draft without axes beside such a target, and the drafts that are
/// published for it (AngelSlim) have no others.
RopeConfig draft_rope(RopeConfig rope) {
  if (rope.per_dimension) {
    rope.sections.clear();
    rope.per_dimension = false;
  }
  return rope;
}

}  // namespace

DraftConfig draft_config_for(const ModelConfig& target, int64_t draft_vocab,
                             std::vector<int64_t> capture_layers) {
  if (capture_layers.empty()) capture_layers = default_capture_layers(target.layers);
  check_layers(capture_layers, target.layers, "draft.layer_ids");
  AERIE_CHECK(draft_vocab >= 1 && draft_vocab <= target.vocab,
              "draft.vocab_size is {}, and must be between 1 and the target's vocabulary of {}",
              draft_vocab, target.vocab);
  return {.hidden = target.hidden,
          .intermediate = target.intermediate,
          .heads = target.heads,
          .kv_heads = target.kv_heads,
          .head_dim = target.head_dim,
          .target_hidden = target.hidden,
          .target_layers = target.layers,
          .vocab = target.vocab,
          .draft_vocab = draft_vocab,
          .text_vocab = target.text_vocab,
          .max_position = target.max_position,
          .rms_norm_eps = target.rms_norm_eps,
          .rope = draft_rope(target.rope),
          .capture_layers = std::move(capture_layers)};
}

std::vector<int64_t> config_json::written_ids(const DraftConfig& config, LayerIds ids) {
  std::vector<int64_t> written = config.capture_layers;
  for (int64_t& id : written) id += id_offset(ids);
  return written;
}

ordered_json config_json::shape(const DraftConfig& config) {
  const bool scaled = config.rope.type != "default" || config.rope.axes() > 1;
  ordered_json json{{"hidden_size", config.hidden},
                    {"intermediate_size", config.intermediate},
                    {"num_attention_heads", config.heads},
                    {"num_key_value_heads", config.kv_heads},
                    {"head_dim", config.head_dim},
                    {"num_hidden_layers", config.layers},
                    {"vocab_size", config.vocab},
                    {"max_position_embeddings", config.max_position},
                    {"rms_norm_eps", config.rms_norm_eps},
                    {"rope_theta", config.rope.theta},
                    {"rope_scaling", scaled ? rope_json(config.rope, false) : ordered_json()},
                    {"rope_parameters", rope_json(config.rope, true)},
                    {"hidden_act", "silu"},
                    {"attention_bias", false},
                    {"mlp_bias", false},
                    {"tie_word_embeddings", false}};
  if (config.window > 0) {
    json["layer_types"] = std::vector<std::string>(static_cast<size_t>(config.layers), kSliding);
    json["sliding_window"] = config.window;
    json["use_sliding_window"] = true;
  }
  return json;
}

ordered_json config_json::stamp(const DraftConfig& config, LayerIds ids) {
  ordered_json stamp{
      {"layer_ids", ids == LayerIds::kAfterLayers ? kAfterLayersName : kOutputOfName},
      {"capture_layers", config.capture_layers},
      {"target_layers", config.target_layers},
      {"vocabulary", config.vocabulary_hash}};
  if (config.text_vocab > 0) stamp[kTextVocab] = config.text_vocab;
  if (config.use_input_embeds) stamp[kInputEmbeds] = true;
  return stamp;
}

std::string draft_config_json(const DraftConfig& config, LayerIds ids, const std::string& dtype) {
  const std::vector<int64_t> written = config_json::written_ids(config, ids);
  const char* architecture = config.qk_norm ? kQwen3Architecture : "LlamaForCausalLMEagle3";
  ordered_json json{{"architectures", {architecture}},
                    {"model_type", config.qk_norm ? "qwen3" : "llama"}};
  json.update(config_json::shape(config));
  json.update(ordered_json{
      {"draft_vocab_size", config.draft_vocab},
      {"target_hidden_size", config.target_hidden},
      {"torch_dtype", dtype},
      {"num_aux_hidden_states", written.size()},
      {kIdsKey, written},
      {"norm_before_residual", config.norm_before_residual},
      {"norm_before_fc", false},
      {"norm_output", config.norm_output},
      {"fc_norm", config.fc_norm},
      {"eagle_config",
       {{kIdsKey, written}, {"use_aux_hidden_state", true}, {"norm_before_fc", false}}},
      {"aerie", config_json::stamp(config, ids)},
  });
  return json.dump(2) + "\n";
}

DraftConfig read_draft_config(const fs::path& directory, std::optional<LayerIds> ids) {
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
