#include "target_models/registry.h"

#include "common/error.h"
#include "target_models/audio_qwen2.h"
#include "target_models/embed_and_head.h"
#include "target_models/gemma3.h"
#include "target_models/moe.h"
#include "target_models/speech_cosyvoice3.h"
#include "target_models/vision_hunyuan.h"
#include "target_models/vision_qwen2_5.h"
#include "target_models/vision_qwen3.h"

namespace aerie {
namespace {

constexpr QkNorm before = QkNorm::kBeforeRope, after = QkNorm::kAfterRope;
constexpr Family kFamilies[] = {
    // Llama 1-3, SmolLM, SmolLM2
    {.model_type = "llama", .head_dim_from_hidden = true, .kv_heads_from_heads = true},
    {.model_type = "mistral", .head_dim_from_hidden = true, .window_unless_null = true},
    {.model_type = "qwen2", .qkv_bias = true, .head_dim_from_hidden = true},  // and Qwen2.5
    {.model_type = "qwen3", .qk_norm = before},
    {.model_type = "qwen2_moe", .qkv_bias = true, .head_dim_from_hidden = true, .read = read_moe},
    {.model_type = "qwen3_moe", .qk_norm = before, .read = read_moe},
    {.model_type = "hunyuan_v1_dense", .qk_norm = after, .kv_heads_from_heads = true},
    {.model_type = "gemma3_text", .qk_norm = before, .read = read_gemma3},
    {.model_type = "qwen2_5_vl",  // images
     .qkv_bias = true,
     .head_dim_from_hidden = true,
     .make = make_qwen2_5_vl},
    {.model_type = "qwen3_vl", .qk_norm = before, .read = read_qwen3_vl, .make = make_qwen3_vl},
    {.model_type = "qwen3_vl_moe",
     .qk_norm = before,
     .text_defaults = kQwen3VlMoeText,
     .read = read_qwen3_vl_moe,
     .make = make_qwen3_vl},
    {.model_type = "hunyuan_vl",  // HunyuanOCR
     .qk_norm = after,
     .kv_heads_from_heads = true,
     .text_defaults = kHunyuanVlText,
     .read = read_hunyuan_vl,
     .make = make_hunyuan_vl},
    {.model_type = "qwen2_audio",  // speech and sounds
     .qkv_bias = true,
     .head_dim_from_hidden = true,
     .text_defaults = kQwen2AudioText,
     .make = make_qwen2_audio},
    {.model_type = "cosyvoice3",  // speaks
     .qkv_bias = true,
     .head_dim_from_hidden = true,
     .read = read_cosyvoice3},
};

}  // namespace

const Family& find_family(const std::string& model_type, const std::string& file) {
  std::vector<std::string> known;
  for (const Family& family : kFamilies) {
    if (model_type == family.model_type) return family;
    known.emplace_back(family.model_type);
  }
  fail("{}: model_type \"{}\" is not supported; known: {}", file, model_type,
       fmt::join(known, ", "));
}

namespace {

void check_dtype(const std::filesystem::path& directory, at::ScalarType dtype) {
  AERIE_CHECK(dtype == at::kBFloat16 || dtype == at::kFloat,
              "{}: a target runs in bfloat16 or float32, not in {}", directory.string(),
              c10::toString(dtype));
}

}  // namespace

std::unique_ptr<TargetModel> load_target(const std::filesystem::path& directory, at::Device device,
                                         at::ScalarType dtype) {
  check_dtype(directory, dtype);
  ModelConfig config = read_model_config(directory);
  const Family& family = find_family(config.model_type, (directory / "config.json").string());
  return family.make(std::move(config), ParamStore(directory), device, dtype);
}

std::unique_ptr<TargetModel> load_target_head(const std::filesystem::path& directory,
                                              at::Device device, at::ScalarType dtype) {
  check_dtype(directory, dtype);
  ModelConfig config = read_model_config(directory);
  const Family& family = find_family(config.model_type, (directory / "config.json").string());
  // Those with towers know by themselves what their tensors are called.
  const auto make = family.make == make_dense ? make_head_only : family.make;
  return make(std::move(config), ParamStore(directory), device, dtype);
}

std::vector<int64_t> default_capture_layers(int64_t layers) {
  AERIE_CHECK(layers >= 7,
              "a target of {} layers has no default layers to capture (low, middle and high would "
              "coincide): give them, e.g. draft.layer_ids: [0, 1, 2]",
              layers);
  return {1, layers / 2 - 1, layers - 4};
}

}  // namespace aerie
