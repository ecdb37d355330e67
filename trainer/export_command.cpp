// aerie export: a checkpoint as a directory that serving engines load, proved before it is called
// done. Needs no target: a draft's files say what it was made for.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "draft_models/dialects.h"
#include "trainer/checkpoint.h"
#include "trainer/commands.h"

namespace aerie {
namespace {

LayerIds convention_of(const std::string& format) {
  if (format == "vllm") return LayerIds::kAfterLayers;
  if (format == "sglang") return LayerIds::kOutputOfLayer;
  fail("--format {} is not known: choose vllm or sglang", format);
}

/// The target as far as a draft's config.json describes it.
ModelConfig target_described_by(const DraftConfig& draft) {
  ModelConfig target;
  target.vocab = draft.vocab;
  target.hidden = draft.target_hidden;
  target.layers = draft.target_layers > 0 ? draft.target_layers : draft.capture_layers.back() + 1;
  return target;
}

LoadedDraft load(const fs::path& directory, LayerIds ids) {
  return load_draft(directory, target_described_by(read_draft_config(directory, ids)), ids);
}

/// Logits of a random prompt: rows attend causally, as in decoding. -> [N,W]
Tensor probe(const DraftConfig& config, const DraftParams& params) {
  const at::NoGradGuard no_grad;
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
    return ops::packed_attention(q, k, v, starts, scale);
  };
  const Tensor tokens = at::arange(rows).remainder(config.vocab);
  const DraftStep step =
      draft.step(tokens, draft.fuse(normal({rows, captured})), at::arange(rows), {}, attend);
  return draft.logits(step.normed);
}

void check(const fs::path& directory, LayerIds ids) {
  const LoadedDraft draft = load(directory, ids);
  const Tensor logits = probe(draft.config, draft.params);
  AERIE_CHECK(logits.isfinite().all().item<bool>(),
              "{}: the draft's logits are not finite: its weights are damaged; export it again",
              directory.string());
  log_info(fmt::format(
      "{}: sound. Draft vocabulary {} of {}, captures the outputs of layers {} (0-based)",
      directory.string(), draft.config.draft_vocab, draft.config.vocab,
      fmt::join(draft.config.capture_layers, ", ")));
}

}  // namespace

void export_command(const ExportFlags& flags) {
  const LayerIds ids = convention_of(flags.format);
  if (!flags.check.empty()) return check(flags.check, ids);

  const TrainState state = read_state(flags.checkpoint);
  const LoadedDraft own = load(flags.checkpoint / "draft", LayerIds::kAfterLayers);
  const DraftParams masters = read_masters(flags.checkpoint);
  save_draft(flags.output, own.config, masters, own.vocab, at::kBFloat16, ids);

  const LoadedDraft written = load(flags.output, ids);
  AERIE_CHECK(written.vocab.draft_to_target.equal(own.vocab.draft_to_target),
              "{}: the vocabulary map does not read back as it was written", flags.output.string());
  AERIE_CHECK(
      probe(written.config, written.params).equal(probe(own.config, masters)),
      "{}: read back, the draft gives other logits than checkpoint {}: do not use it, and report "
      "this",
      flags.output.string(), flags.checkpoint.string());
  log_info(fmt::format(
      "wrote {} from step {} ({} tokens): the {} dialect, bf16; read back, its logits equal the "
      "checkpoint's",
      flags.output.string(), state.step, state.tokens, flags.format));
}

}  // namespace aerie
