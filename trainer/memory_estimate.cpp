#include "trainer/memory_estimate.h"

#include "draft_models/draft.h"

namespace aerie {
namespace {

int64_t target_parameters(const ModelConfig& t) {
  const int64_t attention = t.hidden * t.head_dim * (2 * t.heads + 2 * t.kv_heads);
  const int64_t layer = attention + 3 * t.hidden * t.intermediate + 2 * t.hidden;
  // The table of embeddings and the head's tiles: two copies even where the weights are tied.
  return t.layers * layer + 2 * t.vocab * t.hidden;
}

/// What autograd keeps of one training row at one depth.
int64_t activations_per_row(const DraftConfig& d) {
  const int64_t queries = d.heads * d.head_dim, keys = d.kv_heads * d.head_dim;
  return d.layers * (8 * d.hidden + 3 * d.intermediate + 3 * queries + 4 * keys);
}

}  // namespace

int64_t draft_parameters(const DraftConfig& draft) {
  int64_t count = 0;
  for (const ParamShape& param : draft_param_shapes(draft)) {
    int64_t size = 1;
    for (const int64_t extent : param.shape) size *= extent;
    count += size;
  }
  return count;
}

std::vector<MemoryPart> estimate_memory(const ModelConfig& target, const DraftConfig& draft,
                                        const RunConfig& config, int64_t element) {
  const int64_t parameters = draft_parameters(draft), rows = config.train.pack_tokens;
  const int64_t features = static_cast<int64_t>(draft.capture_layers.size() + 1);
  return {
      {"target weights", target_parameters(target) * element},
      {"draft: weights, gradients, two moments (f32)", 4 * 4 * parameters},
      {"draft: weights as computed with, both ways round", 2 * element * parameters},
      {"hidden states of a pack", rows * features * target.hidden * element},
      {"activations of the unroll, at most",
       rows * config.train.unroll * activations_per_row(draft) * element},
  };
}

int64_t total_bytes(const std::vector<MemoryPart>& parts) {
  int64_t total = 0;
  for (const MemoryPart& part : parts) total += part.bytes;
  return total;
}

std::string format_memory(const std::vector<MemoryPart>& parts) {
  std::string text;
  const auto line = [&text](const std::string& name, int64_t bytes) {
    text += fmt::format("  {:<52} {:>9.1f} MB\n", name, static_cast<double>(bytes) / 1e6);
  };
  for (const MemoryPart& part : parts) line(part.name, part.bytes);
  line("total", total_bytes(parts));
  return text;
}

}  // namespace aerie
