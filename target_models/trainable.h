// A target whose weights learn: the same network as dense.cpp over f32 masters, recorded for
// autograd. The vocabulary matrix (embedding, and head where they are tied) stays as it is; only
// the mask of diffusion gets a row of its own.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/ops.h"
#include "target_models/config.h"

namespace aerie {

/// Weights by name, in the model's order. Projections that are multiplied together are one tensor:
/// "...self_attn.qkv_proj.weight" [(H+2G)*D,C] (and ".bias"), "...mlp.gate_up_proj.weight" [2*I,C].
/// "mask_embedding" [C] is the mask's row.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// f32 copies of what training changes. A model without a mask gets the mean of all embeddings.
/// Throws Error for a family whose layers are not of Llama's form, and as load_target.
NamedTensors read_trainable(const std::filesystem::path& directory);

/// Writes `source` as another Hugging Face directory with these weights, in the source's type. The
/// mask's row becomes the last one of the vocabulary (its id is the config's "mask_token_id"), or
/// replaces the one that the model had.
void write_trained(const std::filesystem::path& source, const std::filesystem::path& output,
                   const NamedTensors& weights);

class TrainableTarget {
 public:
  using Weights = std::function<Tensor(const std::string& name)>;
  /// Queries [N,H,D], keys and values [N,G,D] of all rows -> [N,H,D].
  using Attend = std::function<Tensor(const Tensor& q, const Tensor& k, const Tensor& v)>;

  /// `masters`: f32 leaves by the names of read_trainable; they are shared. `compute`: bf16 or f32.
  TrainableTarget(const std::filesystem::path& directory, const Weights& masters,
                  at::ScalarType compute);
  /// Packs the masters' current values; after every optimizer step.
  void refresh();

  /// tokens, positions [N] i64, masked [N] bool (such a row's token is not looked at) -> states
  /// after the final norm [N,C]. Rows see each other as `attend` lets them.
  Tensor hidden(const Tensor& tokens, const Tensor& positions, const Tensor& masked,
                const Attend& attend) const;

  /// [V,C], frozen; differentiable for its input.
  const ops::LinearWeight& head() const { return head_; }
  const ModelConfig& config() const { return config_; }

 private:
  struct Layer {
    ops::LinearWeight qkv, o, gate_up, down;
    Tensor input_norm, post_norm;  // [C]
    Tensor q_norm, k_norm;         // [D], or undefined
    Tensor qkv_bias;               // [(H+2G)*D], or undefined
  };
  Tensor attention(const Layer& layer, const Tensor& x, const Tensor& positions,
                   const Attend& attend) const;

  ModelConfig config_;
  at::ScalarType compute_;
  ops::RopeTable rope_;
  Tensor embed_;              // [V,C]
  Tensor mask_, final_norm_;  // [C]
  ops::LinearWeight head_;
  std::vector<Layer> layers_;
};

}  // namespace aerie
