#include "draft_models/servable.h"

#include "common/error.h"

namespace aerie {
namespace {

/// A departure from the plain draft, and which engines' files can say it. SGLang skips tensors that
/// it does not know; llama.cpp's graph has one layer and neither of the 3.1 norms.
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
};

bool holds(const Variant& variant, const std::string& engine) {
  if (engine == "vllm") return variant.vllm;
  if (engine == "sglang") return variant.sglang;
  if (engine == "speculators") return variant.speculators;
  return engine == "gguf" ? variant.gguf : true;
}

}  // namespace

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
