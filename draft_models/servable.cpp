#include "draft_models/servable.h"

#include "common/error.h"

namespace aerie {
namespace {

/// A departure from the plain draft, and which engines' files can say it. SGLang skips tensors that
/// it does not know, and takes a draft's window from its command line, never from the file;
/// llama.cpp's graph has one layer, neither of the 3.1 norms and no window.
struct Variant {
  const char* option;
  bool (*used)(const DraftConfig&);
  bool vllm, sglang, speculators, gguf;
};
constexpr Variant kVariants[] = {
    {"draft.layers above 1", [](const DraftConfig& c) { return c.layers > 1; }, true, false, true,
     false},
    {"draft.body qwen3", [](const DraftConfig& c) { return c.qk_norm; }, true, false, true, false},
    {"draft.fc_norm", [](const DraftConfig& c) { return c.fc_norm; }, true, true, true, false},
    {"draft.norm_output", [](const DraftConfig& c) { return c.norm_output; }, true, true, true,
     false},
    {"draft.norm_before_residual", [](const DraftConfig& c) { return c.norm_before_residual; },
     true, false, true, true},
    {"draft.use_input_embeds", [](const DraftConfig& c) { return c.use_input_embeds; }, true, true,
     true, false},
    {"a target that speaks", [](const DraftConfig& c) { return c.text_vocab > 0; }, true, true,
     true, false},
    {"draft.window", [](const DraftConfig& c) { return c.window > 0; }, true, false, true, false},
};

bool holds(const Variant& variant, const std::string& engine) {
  if (engine == "vllm") return variant.vllm;
  if (engine == "sglang") return variant.sglang;
  if (engine == "speculators") return variant.speculators;
  return engine == "gguf" ? variant.gguf : true;
}

}  // namespace

std::string fed_otherwise(const DraftConfig& config) {
  if (!config.use_input_embeds) return "";
  return "draft.use_input_embeds: this draft was trained on the features of images and audio, and "
         "serving engines feed it the placeholder's embedding there: outputs stay right, fewer "
         "tokens are accepted; aerie generate and bench feed it as it was trained";
}

void check_servable(const DraftConfig& config, const std::string& engine) {
  for (const Variant& variant : kVariants) {
    if (!variant.used(config) || holds(variant, engine)) continue;
    std::string others;
    for (const char* name : {"vllm", "sglang", "speculators", "gguf"}) {
      if (holds(variant, name)) others += (others.empty() ? "" : ", ") + std::string(name);
    }
    fail(
        "{}: a draft for {} cannot be of this form (one for {} can): leave the option out, or "
        "serve "
        "the draft with another engine",
        variant.option, engine, others);
  }
}

}  // namespace aerie
