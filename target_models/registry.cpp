#include "target_models/registry.h"

#include "common/error.h"
#include "target_models/dense.h"
#include "target_models/vision_qwen2_5.h"

namespace aerie {
namespace {

constexpr bool yes = true, no = false;
constexpr Family kFamilies[] = {
    // model_type  qkv_bias  qk_norm  head_dim_from_hidden  kv_heads_from_heads  window_unless_null
    {"llama", no, no, yes, yes, no, make_dense},  // Llama 1-3, SmolLM, SmolLM2
    {"mistral", no, no, yes, no, yes, make_dense},
    {"qwen2", yes, no, yes, no, no, make_dense},  // Qwen2, Qwen2.5
    {"qwen3", no, yes, no, no, no, make_dense},
    {"qwen2_5_vl", yes, no, yes, no, no, make_qwen2_5_vl},  // images
};

}  // namespace

const Family& find_family(const std::string& model_type, const std::string& file) {
  std::vector<std::string> known;
  for (const Family& family : kFamilies) {
    if (model_type == family.model_type) return family;
    known.push_back(family.model_type);
  }
  fail("{}: model_type \"{}\" is not supported; known: {}", file, model_type,
       fmt::join(known, ", "));
}

std::unique_ptr<TargetModel> load_target(const std::filesystem::path& directory, at::Device device,
                                         at::ScalarType dtype) {
  AERIE_CHECK(dtype == at::kBFloat16 || dtype == at::kFloat,
              "{}: a target runs in bfloat16 or float32, not in {}", directory.string(),
              c10::toString(dtype));
  ModelConfig config = read_model_config(directory);
  const Family& family = find_family(config.model_type, (directory / "config.json").string());
  return family.make(std::move(config), ParamStore(directory), device, dtype);
}

std::vector<int64_t> default_capture_layers(int64_t layers) {
  AERIE_CHECK(layers >= 7,
              "a target of {} layers has no default layers to capture (low, middle and high would "
              "coincide): give them, e.g. draft.layer_ids: [0, 1, 2]",
              layers);
  return {1, layers / 2 - 1, layers - 4};
}

}  // namespace aerie
