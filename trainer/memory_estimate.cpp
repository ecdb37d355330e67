#include "trainer/memory_estimate.h"

#include "draft_models/draft.h"
#include "trainer/run_sources.h"

namespace aerie {
namespace {

// The program itself with LibTorch's pages that it touches.
constexpr int64_t kProgram = 150'000'000;
// As in kernels/cpu/head_loss.cpp: rows whose logits exist at a time.
constexpr int64_t kTeacherRows = 256, kStudentRows = 512;
constexpr int64_t kDecodedAtOnce = 8;  // decoding/measure_acceptance.cpp

int64_t target_parameters(const ModelConfig& t) {
  const int64_t attention = t.hidden * t.head_dim * (2 * t.heads + 2 * t.kv_heads);
  const int64_t plain =
      t.moe.experts == 0 ? t.layers : static_cast<int64_t>(t.moe.dense_layers.size());
  const int64_t mixture = t.moe.experts * t.moe.intermediate + t.moe.shared_intermediate;
  const int64_t widths = plain * t.intermediate + (t.layers - plain) * mixture;
  return t.layers * (attention + 2 * t.hidden) + 3 * t.hidden * widths + t.vocab * t.hidden;
}

/// The layers, and the head; what of the embedding is looked up is counted apart.
int64_t loaded_parameters(const ModelConfig& t, const RunConfig& config) {
  return runs_target(config) ? target_parameters(t) : t.vocab * t.hidden;
}

/// The table of embeddings is a view on the file: what is looked up becomes resident, and of an
/// untied model the head's own view besides.
int64_t embedding_bytes(const ModelConfig& t, const DraftConfig& d, int64_t element) {
  return std::min(t.input_vocab(), 4 * d.draft_vocab) * t.hidden * element;
}

/// What autograd keeps of one training row at one depth (draft_models/eagle3.cpp), in elements:
/// embedding, [embedding | hidden], hidden, after attention, its norm, the output, its norm twice
/// and their gradients; gate, up and their product; queries and what they attended; keys and
/// values, and of those of earlier depths a copy for the rows that are left.
int64_t activations_per_row(const DraftConfig& d, int64_t depths) {
  return d.layers * (10 * d.hidden + 3 * d.intermediate + 2 * d.heads * d.head_dim +
                     (1 + depths) * d.kv_heads * d.head_dim);
}

/// Depths that a row is unrolled to on average: with train.depth_keep = r, depth k keeps r^k of the
/// rows.
double mean_depths(const TrainSection& train) {
  double sum = 0, share = 1;
  for (int64_t k = 0; k < train.unroll; ++k, share *= train.depth_keep) sum += share;
  return sum;
}

/// Of `rows` training rows. Computed again in the backward, only a depth's inputs stay, and the
/// activations of the depth that is at work.
double unroll_elements(const DraftConfig& draft, const TrainSection& train, double rows) {
  const auto per_row = static_cast<double>(activations_per_row(draft, train.unroll));
  if (!train.recompute) return rows * mean_depths(train) * per_row;
  return rows * (per_row + mean_depths(train) * 2 * static_cast<double>(draft.hidden));
}

/// One layer's intermediate results of the target's forward pass.
int64_t target_activations(const ModelConfig& t) {
  return 4 * t.hidden + 3 * t.intermediate + 2 * (t.heads + 2 * t.kv_heads) * t.head_dim;
}

/// Teacher's probabilities, students' logits and their gradient, the head's gradient.
int64_t head_loss_bytes(const DraftConfig& d) {
  return kTeacherRows * d.draft_vocab * 4 + kStudentRows * d.draft_vocab * (4 + 2) +
         d.draft_vocab * d.hidden * 4;
}

/// Keys and values of the prompts that are decoded together, and the draft's weights once more.
int64_t evaluation_bytes(const ModelConfig& t, const DraftConfig& d, const RunConfig& config,
                         int64_t element) {
  if (config.data.heldout.empty() || config.eval.prompts == 0) return 0;
  const int64_t at_once = std::min(config.eval.prompts, kDecodedAtOnce);
  const int64_t length = config.data.max_length / 2 + config.decode.max_new_tokens;
  const int64_t token = 2 * t.layers * t.kv_heads * t.head_dim * element;
  const int64_t guesses = config.decode.tree
                              ? std::max(config.decode.draft_tokens, config.decode.tree_nodes)
                              : config.decode.draft_tokens;
  const int64_t logits = at_once * (guesses + 1) * t.vocab * (4 + element);
  return at_once * length * token + logits + draft_parameters(d) * element;
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

int64_t checkpoint_bytes(const DraftConfig& draft, const OptimSection& optim) {
  const int64_t average = optim.ema > 0 ? 4 : 0;
  // Masters, moments, the average, and the draft in bf16.
  return (4 + 2 * 4 + average + 2) * draft_parameters(draft);
}

std::vector<MemoryPart> estimate_memory(const ModelConfig& target, const DraftConfig& draft,
                                        const RunConfig& config, const MemoryFacts& facts) {
  const int64_t parameters = draft_parameters(draft), rows = config.train.pack_tokens;
  const int64_t element = facts.element;
  const int64_t features = static_cast<int64_t>(draft.capture_layers.size() + 1);
  const int64_t ahead = config.hidden_states.mode == "online" ? 1 : 2;  // one more is being read
  const double trained = facts.supervised_share * static_cast<double>(rows);
  const double unroll = unroll_elements(draft, config.train, trained);
  std::vector<MemoryPart> parts = {
      {"program and libraries", kProgram},
      {"target: weights",
       loaded_parameters(target, config) * element + embedding_bytes(target, draft, element)},
      {"target: one layer's activations",
       runs_target(config) ? rows * target_activations(target) * element : 0},
      {"draft: weights, gradients, two moments (f32)", 4 * 4 * parameters},
      {"draft: weights as computed with, both ways round", 2 * element * parameters},
      {"hidden states of a pack", ahead * rows * features * target.hidden * element},
      {"activations of the unroll", static_cast<int64_t>(unroll) * element},
      {"head and loss", head_loss_bytes(draft)},
      {"evaluation by decoding", evaluation_bytes(target, draft, config, element)},
  };
  if (config.optim.ema > 0) {
    parts.push_back({"draft: average of the weights (f32)", 4 * parameters});
  }
  return parts;
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
