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
  std::string type = "default";  ///< default | llama3 | linear; any other is refused by name
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  ///< llama3
  int64_t original_max_position = 0;                     ///< llama3
  /// Multi-axis RoPE (mrope): pairs of a head that follow each axis (time, height, width); []: one
  /// axis.
  std::vector<int64_t> sections;
  bool interleaved = false;  ///< the axes take turns (Qwen3-VL) instead of blocks (Qwen2.5-VL)

  int64_t axes() const { return sections.empty() ? 1 : static_cast<int64_t>(sections.size()); }
};

struct ModelConfig {
  std::string model_type;    ///< as in config.json: "llama", "qwen2", "qwen3"
  std::string architecture;  ///< architectures[0]
  int64_t layers = 0, hidden = 0, intermediate = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  int64_t max_position = 0;
  double rms_norm_eps = 0;
  RopeConfig rope;
  bool tied_head = false;
  bool qkv_bias = false;            ///< Qwen2
  bool qk_norm = false;             ///< Qwen3
  std::vector<int64_t> eos_tokens;  ///< config.json and generation_config.json together
};

class HfJson;

/// What one configuration says, without generation_config.json. Throws Error as below.
ModelConfig model_config_from(const HfJson& file);
/// Reads DIR/config.json (and generation_config.json). Throws Error naming file, key and what is
/// supported.
ModelConfig read_model_config(const std::filesystem::path& directory);

}  // namespace aerie
