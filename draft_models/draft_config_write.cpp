// A draft's config.json, with every value that a loader might guess.
#include "draft_models/config_json.h"

namespace aerie {
namespace {

using nlohmann::ordered_json;
using namespace config_json;

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

}  // namespace

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

}  // namespace aerie
