#include "trainer/draft_check.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "draft_models/gguf_draft.h"

namespace aerie {
namespace {

/// The target as far as a draft's config.json describes it.
ModelConfig target_described_by(const DraftConfig& draft) {
  ModelConfig target;
  target.vocab = draft.vocab;
  target.text_vocab = draft.text_vocab;
  target.hidden = draft.target_hidden;
  target.layers = draft.target_layers > 0 ? draft.target_layers : draft.capture_layers.back() + 1;
  return target;
}

}  // namespace

LoadedDraft read_any_draft(const fs::path& place, std::optional<LayerIds> ids) {
  if (fs::is_regular_file(place)) {
    AERIE_CHECK(is_gguf(place),
                "{} is a file and no GGUF: give a draft's directory (config.json, "
                "model.safetensors) or its .gguf",
                place.string());
    return load_gguf_draft(place);
  }
  return load_draft(place, target_described_by(read_draft_config(place, ids)), ids);
}

Tensor probe_logits(DraftConfig config, const DraftParams& params) {
  const at::NoGradGuard no_grad;
  config.text_vocab = 0;  // the probe holds nothing to be said
  const int64_t rows = std::min<int64_t>(16, config.max_position);
  at::Generator random = at::detail::createCPUGenerator(1);
  const auto normal = [&](at::IntArrayRef shape) {
    return at::normal(0.0, 1.0, shape, random).to(at::kBFloat16);
  };
  const Tensor embed = normal({config.vocab, config.hidden});
  const int64_t captured =
      config.target_hidden * static_cast<int64_t>(config.capture_layers.size());
  const Eagle3Draft draft(config, params, embed, at::kBFloat16);
  const Tensor starts = at::tensor({0, static_cast<int>(rows)}, at::kInt);
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.head_dim));
  const Attend attend = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    return ops::packed_attention(q, k, v, starts, scale, config.window);
  };
  const Tensor tokens = at::arange(rows).remainder(config.vocab);
  const DraftStep step =
      draft.step(tokens, draft.fuse(normal({rows, captured})), at::arange(rows), {}, attend);
  return draft.logits(step.normed);
}

LoadedDraft check_draft(const fs::path& place, std::optional<LayerIds> ids) {
  LoadedDraft draft = read_any_draft(place, ids);
  const Tensor logits = probe_logits(draft.config, draft.params);
  AERIE_CHECK(logits.isfinite().all().item<bool>(),
              "{}: the draft's logits are not finite: its weights are damaged; export it again",
              place.string());
  log_info(fmt::format(
      "{}: sound. Draft vocabulary {} of {}, captures the outputs of layers {} (0-based)",
      place.string(), draft.config.draft_vocab, draft.config.vocab,
      fmt::join(draft.config.capture_layers, ", ")));
  return draft;
}

}  // namespace aerie
