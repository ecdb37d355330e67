// What layers of towers have and language models have not: biases, layer norms, and attention in
// which every row of a segment sees every other.
#pragma once
#include <string>
#include <vector>

#include "target_models/params.h"

namespace aerie {

class HfJson;

/// x [N,I] -> x W^T + b [N,O]
struct BiasedLinear {
  ops::LinearWeight weight;
  Tensor bias;  ///< [O]
  Tensor operator()(const Tensor& x) const { return ops::linear(x, weight).add_(bias); }
};

/// Layers `names` on top of each other; tensors "<name>.weight" [rows,in] and "<name>.bias" [rows].
BiasedLinear load_biased(ParamStore& store, const std::vector<std::string>& names, int64_t rows,
                         int64_t in, const Placement& placement);
/// A convolution whose steps are its size, [rows, in, ...] in the file, as a product; its input has
/// the kernel's places in the file's order.
BiasedLinear load_patch_embedding(ParamStore& store, const std::string& name,
                                  at::IntArrayRef kernel, const Placement& placement);

/// x [N,C] -> [N,C]
struct LayerNorm {
  Tensor weight, bias;  ///< [C]
  double eps = 0;
  Tensor operator()(const Tensor& x) const;
};

/// "<name>.weight" and "<name>.bias", [size].
LayerNorm load_layer_norm(ParamStore& store, const std::string& name, int64_t size, double eps,
                          const Placement& placement);

/// How rows see each other: in segments starts [S+1] i32 (on the CPU), turned by `rope`.
struct TowerRows {
  Tensor starts;
  const ops::RopeRows* rope = nullptr;  ///< null: not turned
};

/// All rows in one segment.
Tensor one_segment(int64_t rows);

/// x [N,C] normalised -> [N,C]
struct TowerAttention {
  BiasedLinear qkv, out;  ///< [3C,C], [C,C]
  int64_t heads = 0;
  Tensor operator()(const Tensor& x, const TowerRows& rows) const;
};

/// A layer of Whisper's and SigLIP's form: x + attention(norm(x)), then x +
/// fc2(gelu(fc1(norm(x)))).
struct TowerBlock {
  LayerNorm attention_norm, mlp_norm;
  TowerAttention attention;
  BiasedLinear fc1, fc2;      ///< [I,C], [C,I]
  std::string gelu = "none";  ///< its approximation, as read_gelu gives it
  Tensor operator()(const Tensor& x, const TowerRows& rows) const;
};

/// The activation under `key`, "gelu" or "gelu_pytorch_tanh", as at::gelu calls it. Throws Error
/// for another one.
std::string read_gelu(const HfJson& file, const char* key);

}  // namespace aerie
