#include "target_models/gemma3.h"

#include <cmath>

#include "target_models/hf_json.h"
#include "target_models/rope.h"

namespace aerie {
namespace {

// Hugging Face's defaults of this family.
constexpr double kGlobalTheta = 1e6, kLocalTheta = 1e4;
constexpr int64_t kPattern = 6;  // every sixth layer sees everything

void refuse_variants(const HfJson& file) {
  const std::string act = file.require<std::string>("hidden_activation");
  AERIE_CHECK(act == "gelu_pytorch_tanh",
              "{}: \"hidden_activation\" is \"{}\", and only \"gelu_pytorch_tanh\" is supported",
              file.where(), act);
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    AERIE_CHECK(!file.has(key), "{}: \"{}\" is set, and soft caps are not supported", file.where(),
                key);
  }
  AERIE_CHECK(!file.find<bool>("use_bidirectional_attention").value_or(false),
              "{}: \"use_bidirectional_attention\" is true, and only causal models are supported",
              file.where());
}

std::vector<bool> read_sliding(const HfJson& file, int64_t layers) {
  std::vector<bool> sliding;
  if (const auto types = file.find<std::vector<std::string>>("layer_types")) {
    for (const std::string& type : *types) {
      AERIE_CHECK(type == "sliding_attention" || type == "full_attention",
                  "{}: \"layer_types\" holds \"{}\"; known: sliding_attention, full_attention",
                  file.where(), type);
      sliding.push_back(type == "sliding_attention");
    }
    AERIE_CHECK(static_cast<int64_t>(sliding.size()) == layers,
                "{}: \"layer_types\" names {} layers of {}", file.where(), sliding.size(), layers);
    return sliding;
  }
  const int64_t pattern =
      file.has("sliding_window_pattern") ? file.require_size("sliding_window_pattern") : kPattern;
  for (int64_t i = 0; i < layers; ++i) sliding.push_back((i + 1) % pattern != 0);
  return sliding;
}

RopeConfig read_local_rope(const HfJson& file) {
  if (file.has("rope_parameters") && file.section("rope_parameters").has("sliding_attention")) {
    const HfJson section = file.section("rope_parameters").section("sliding_attention");
    return read_rope_section(section, file, kLocalTheta);
  }
  return {.theta = file.find<double>("rope_local_base_freq").value_or(kLocalTheta)};
}

bool states_theta(const HfJson& file) {
  if (file.has("rope_theta")) return true;
  if (!file.has("rope_parameters")) return false;
  const HfJson section = file.section("rope_parameters");
  return section.has("full_attention") && section.section("full_attention").has("rope_theta");
}

}  // namespace

void read_gemma3(const HfJson& file, ModelConfig& config) {
  refuse_variants(file);
  GemmaConfig& gemma = config.gemma;
  gemma.on = true;
  gemma.embed_scale = std::sqrt(static_cast<double>(config.hidden));
  gemma.query_scale = 1 / std::sqrt(file.require<double>("query_pre_attn_scalar"));
  gemma.sliding = read_sliding(file, config.layers);
  gemma.window = file.require_size("sliding_window");
  gemma.local_rope = read_local_rope(file);
  if (!states_theta(file)) config.rope.theta = kGlobalTheta;
  config.tied_head = file.find<bool>("tie_word_embeddings").value_or(true);
}

}  // namespace aerie
