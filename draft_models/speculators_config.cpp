#include "draft_models/speculators_config.h"

#include "common/error.h"
#include "draft_models/config_json.h"
#include "target_models/hf_json.h"

namespace aerie {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// The release whose file format this is.
constexpr const char* kVersion = "0.5.0";

ordered_json body_json(const DraftConfig& config) {
  const char* architecture = config.qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM";
  ordered_json body{{"architectures", {architecture}},
                    {"model_type", config.qk_norm ? "qwen3" : "llama"}};
  body.update(config_json::shape(config));
  return body;
}

}  // namespace

std::string speculators_config_json(const DraftConfig& config, const Verifier& verifier,
                                    const std::string& dtype) {
  AERIE_CHECK(!verifier.name.empty(),
              "a speculators directory names its target: give --target (a directory, or a name on "
              "the hub)");
  const LayerIds ids = LayerIds::kAfterLayers;
  const ordered_json proposal{{"proposal_type", "greedy"},
                              {"speculative_tokens", verifier.draft_tokens},
                              {"verifier_accept_k", 1},
                              {"accept_tolerance", 0.0}};
  const ordered_json json{
      {"architectures", {"Eagle3Speculator"}},
      {"model_type", "speculator_model"},
      {"speculators_model_type", "eagle3"},
      {"speculators_version", kVersion},
      {"draft_vocab_size", config.draft_vocab},
      {"target_hidden_size", config.target_hidden},
      {config_json::kIdsKey, config_json::written_ids(config, ids)},
      {"norm_before_residual", config.norm_before_residual},
      {"norm_before_fc", false},
      {"norm_output", config.norm_output},
      {"fc_norm", config.fc_norm},
      {"embed_requires_grad", false},
      {"tie_word_embeddings", false},
      {"torch_dtype", dtype},
      {"transformer_layer_config", body_json(config)},
      {"speculators_config",
       {{"algorithm", "eagle3"},
        {"default_proposal_method", "greedy"},
        {"proposal_methods", ordered_json::array({proposal})},
        {"verifier",
         {{"name_or_path", verifier.name}, {"architectures", verifier.architectures}}}}},
      {"aerie", config_json::stamp(config, ids)},
  };
  return json.dump(2) + "\n";
}

bool is_speculators(const HfJson& file) { return file.has("speculators_model_type"); }

HfJson flatten_speculators(const HfJson& file) {
  const std::string kind = file.require<std::string>("speculators_model_type");
  AERIE_CHECK(kind == "eagle3",
              "{}: \"speculators_model_type\" is \"{}\", and only \"eagle3\" drafts are supported",
              file.where(), kind);
  json flat = file.section("transformer_layer_config").object();
  for (const auto& [key, value] : file.object().items()) {
    const bool nested = key == "transformer_layer_config" || key == "speculators_config";
    if (!nested && key != "architectures" && key != "model_type") flat[key] = value;
  }
  flat["architectures"] = {"LlamaForCausalLMEagle3"};
  // This library's own default, unlike that of plain files.
  if (!file.has("norm_before_residual")) flat["norm_before_residual"] = true;
  return HfJson(std::move(flat), file.where());
}

}  // namespace aerie
