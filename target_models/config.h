// HF config.json -> ModelConfig. A shape has no default: what the file does not say stops the load.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace aerie {

/// Rotary embedding, from transformers-4 (`rope_theta`, `rope_scaling`) or -5 (`rope_parameters`)
/// files.
struct RopeConfig {
  /// default | linear | dynamic | llama3 | yarn; any other is refused by name
  std::string type = "default";
  double theta = 10000.0;
  double factor = 1.0;
  double alpha = 0;  ///< dynamic: stretches theta once and for all (Hunyuan); 0: not given
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< llama3
  int64_t original_max_position = 0;                     ///< llama3, yarn
  double beta_fast = 32, beta_slow = 1;                  ///< yarn: where its ramp begins and ends
  bool truncate = true;                   ///< yarn: the ramp's ends are whole numbers
  double attention_factor = 0;            ///< yarn: of cos and sin; 0: inferred from what follows
  double mscale = 0, mscale_all_dim = 0;  ///< yarn; 0: not given
  /// Multi-axis RoPE (mrope): pairs of a head that follow each axis (time, height, width; of
  /// HunyuanOCR token, column, row, image); []: one axis.
  std::vector<int64_t> sections = {};
  bool interleaved = false;  ///< the axes take turns (Qwen3-VL) instead of blocks (Qwen2.5-VL)
  /// HunyuanOCR (xdrope): blocks of twice the sections over all dimensions of a head, so that the
  /// halves of a pair follow different axes.
  bool per_dimension = false;

  int64_t axes() const { return sections.empty() ? 1 : static_cast<int64_t>(sections.size()); }
};

/// Where a head's queries and keys are normalised.
enum class QkNorm { kNone, kBeforeRope, kAfterRope };

/// A mixture of experts in place of the MLP (Qwen2-MoE, Qwen3-MoE).
struct MoeConfig {
  int64_t experts = 0, experts_per_token = 0, intermediate = 0;  ///< 0 experts: no mixture
  int64_t shared_intermediate = 0;    ///< of an expert that every token uses; 0: there is none
  bool normalise = false;             ///< the chosen experts' weights are made to sum to 1
  std::vector<int64_t> dense_layers;  ///< layers that have the ordinary MLP, ascending
};

/// What only Gemma 3 has: norms before and after both halves of a layer, their weights stored minus
/// one; scaled embeddings; GeGLU; most layers see a window only and have a RoPE of their own.
struct GemmaConfig {
  bool on = false;
  double embed_scale = 1, query_scale = 1;
  int64_t window = 0;         ///< tokens that a sliding layer sees, itself included
  std::vector<bool> sliding;  ///< one a layer
  RopeConfig local_rope;      ///< of sliding layers; ModelConfig::rope is that of the full ones
};

struct ModelConfig {
  std::string model_type;    ///< as in config.json: "llama", "qwen2", "qwen3_moe"
  std::string architecture;  ///< architectures[0]
  int64_t layers = 0, hidden = 0, intermediate = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t vocab = 0;  ///< V: ids that are written, the logits' width
  /// Ids of a text that is read and never written, by targets that speak: text id i is token
  /// vocab + i. 0: the target writes what it reads.
  int64_t text_vocab = 0;
  int64_t max_position = 0;
  double rms_norm_eps = 0;
  RopeConfig rope;
  bool tied_head = false;
  bool qkv_bias = false;           ///< Qwen2
  QkNorm qk_norm = QkNorm::kNone;  ///< Qwen3 before, Hunyuan after RoPE
  MoeConfig moe;
  GemmaConfig gemma;
  std::vector<int64_t> eos_tokens;  ///< config.json and generation_config.json together
  /// Stands for a token that diffusion has not decided yet (mask_token_id); never generated.
  /// -1: the model has none.
  int64_t mask_token = -1;

  /// Rows of the embedding: ids that a prompt may hold.
  int64_t input_vocab() const { return vocab + text_vocab; }
};

class HfJson;

/// What one configuration says, without generation_config.json. Throws Error as below.
ModelConfig model_config_from(const HfJson& file);
/// Reads DIR/config.json (and generation_config.json). Throws Error naming file, key and what is
/// supported.
ModelConfig read_model_config(const std::filesystem::path& directory);

}  // namespace aerie
