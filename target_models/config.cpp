#include "target_models/config.h"

#include <algorithm>

#include "target_models/hf_json.h"
#include "target_models/registry.h"
#include "target_models/rope.h"

namespace aerie {
namespace {

namespace fs = std::filesystem;

/// Names the method where the file does: "fp8", "gptq", "awq", "bitsandbytes", ...
void refuse_quantization(const HfJson& file) {
  if (!file.has("quantization_config")) return;
  const HfJson section = file.section("quantization_config");
  fail(
      "{}: \"quantization_config\" with quant_method \"{}\": quantized weights are not supported; "
      "use the bf16 model",
      file.where(), section.find<std::string>("quant_method").value_or("unknown"));
}

/// Features that would change the result if they were ignored.
void refuse_unsupported(const HfJson& file, const Family& family) {
  const std::string& where = file.where();
  refuse_quantization(file);
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    AERIE_CHECK(!file.find<bool>(key).value_or(false),
                "{}: \"{}\" is true: these biases are not supported for model_type \"{}\"", where,
                key, family.model_type);
  }
}

void read_shapes(const HfJson& file, const Family& family, ModelConfig& config) {
  config.layers = file.require_size("num_hidden_layers");
  config.hidden = file.require_size("hidden_size");
  config.intermediate = file.require_size("intermediate_size");
  config.heads = file.require_size("num_attention_heads");
  config.vocab = file.require_size("vocab_size");
  config.max_position = file.require_size("max_position_embeddings");
  const bool no_groups = !file.has("num_key_value_heads") && family.kv_heads_from_heads;
  config.kv_heads = no_groups ? config.heads : file.require_size("num_key_value_heads");
  const bool derived = !file.has("head_dim") && family.head_dim_from_hidden;
  config.head_dim = derived ? config.hidden / config.heads : file.require_size("head_dim");
  AERIE_CHECK(!derived || config.hidden % config.heads == 0,
              "{}: \"hidden_size\" {} is no multiple of \"num_attention_heads\" {}", file.where(),
              config.hidden, config.heads);
  AERIE_CHECK(config.heads % config.kv_heads == 0,
              "{}: \"num_attention_heads\" {} is no multiple of \"num_key_value_heads\" {}",
              file.where(), config.heads, config.kv_heads);
  AERIE_CHECK(config.head_dim % 2 == 0, "{}: \"head_dim\" is {} and must be even", file.where(),
              config.head_dim);
}

std::vector<int64_t> with_generation_config(std::vector<int64_t> tokens,
                                            const fs::path& directory) {
  const fs::path generation = directory / "generation_config.json";
  if (fs::exists(generation)) {
    const auto more = HfJson::read(generation).find<std::vector<int64_t>>("eos_token_id");
    if (more) tokens.insert(tokens.end(), more->begin(), more->end());
  }
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

std::string read_architecture(const HfJson& file) {
  const auto names = file.require<std::vector<std::string>>("architectures");
  AERIE_CHECK(!names.empty(), "{}: \"architectures\" is empty: name the model's class",
              file.where());
  return names[0];
}

void check_axes(const HfJson& file, const RopeConfig& rope) {
  const bool fits = rope.per_dimension ? rope.axes() == 4 : rope.axes() == 1 || rope.axes() == 3;
  AERIE_CHECK(
      fits, "{}: \"mrope_section\" names {} sections and must name {}", file.where(), rope.axes(),
      rope.per_dimension ? "four: token, column, row, image" : "three: time, height, width");
}

/// SwiGLU and full attention: what every family has but Gemma 3.
void require_llama_body(const HfJson& file, const Family& family) {
  const std::string& where = file.where();
  const std::string act = file.require<std::string>("hidden_act");
  AERIE_CHECK(act == "silu", "{}: \"hidden_act\" is \"{}\", and only \"silu\" is supported", where,
              act);
  const bool window =
      file.find<bool>("use_sliding_window")
          .value_or(family.window_unless_null &&
                    (file.has("sliding_window") || !file.object().contains("sliding_window")));
  AERIE_CHECK(!window,
              "{}: sliding-window attention (\"sliding_window\", \"use_sliding_window\") is not "
              "supported; if the model attends in full, set \"sliding_window\" to null",
              where);
  const auto types = file.find<std::vector<std::string>>("layer_types");
  for (const std::string& type : types.value_or(std::vector<std::string>{})) {
    AERIE_CHECK(type == "full_attention",
                "{}: \"layer_types\" holds \"{}\", and only \"full_attention\" is supported", where,
                type);
  }
}

}  // namespace

ModelConfig model_config_from(const HfJson& file) {
  ModelConfig config;
  config.model_type = file.require<std::string>("model_type");
  const Family& family = find_family(config.model_type, file.where());
  // Models with towers keep the language model's keys in a section, or, in files of transformers 4,
  // among their own.
  const HfJson text = (file.has("text_config") ? file.section("text_config") : file)
                          .with_defaults(family.text_defaults);
  refuse_unsupported(text, family);
  read_shapes(text, family, config);
  config.architecture = read_architecture(file);
  config.rms_norm_eps = text.require<double>("rms_norm_eps");
  config.rope = read_rope_config(text);
  // The class default of most families.
  config.tied_head = file.find<bool>("tie_word_embeddings")
                         .value_or(text.find<bool>("tie_word_embeddings").value_or(false));
  config.qkv_bias = family.qkv_bias;
  config.qk_norm = family.qk_norm;
  config.eos_tokens = (file.has("eos_token_id") ? file : text)
                          .find<std::vector<int64_t>>("eos_token_id")
                          .value_or(std::vector<int64_t>{});
  config.mask_token = file.find<int64_t>("mask_token_id").value_or(-1);
  AERIE_CHECK(config.mask_token >= -1 && config.mask_token < config.vocab,
              "{}: \"mask_token_id\" {} is outside the vocabulary of {}", file.where(),
              config.mask_token, config.vocab);
  if (family.read != nullptr) family.read(text, config);
  check_axes(text, config.rope);
  if (!config.gemma.on) require_llama_body(text, family);
  return config;
}

ModelConfig read_model_config(const fs::path& directory) {
  AERIE_CHECK(
      fs::is_directory(directory),
      "{} is no directory: give a Hugging Face model directory (config.json, *.safetensors)",
      directory.string());
  AERIE_CHECK(fs::exists(directory / "config.json") || !fs::exists(directory / "cosyvoice3.yaml"),
              "{} is CosyVoice 3 as it is published: scripts/convert_cosyvoice3.py makes a Hugging "
              "Face directory of its language model",
              directory.string());
  ModelConfig config = model_config_from(HfJson::read(directory / "config.json"));
  config.eos_tokens = with_generation_config(std::move(config.eos_tokens), directory);
  return config;
}

}  // namespace aerie
