#include "target_models/tower_layers.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>

#include <cmath>

#include "target_models/hf_json.h"

namespace aerie {

BiasedLinear load_biased(ParamStore& store, const std::vector<std::string>& names, int64_t rows,
                         int64_t in, const Placement& placement) {
  std::vector<std::string> weights;
  std::vector<Tensor> biases;
  for (const std::string& name : names) {
    weights.push_back(name + ".weight");
    biases.push_back(load_tensor(store, name + ".bias", {rows}, placement));
  }
  const std::vector<int64_t> sizes(names.size(), rows);
  return {load_linear(store, weights, sizes, in, placement), at::cat(biases)};
}

BiasedLinear load_patch_embedding(ParamStore& store, const std::string& name,
                                  at::IntArrayRef kernel, const Placement& placement) {
  const Tensor weight = load_tensor(store, name + ".weight", kernel, placement);
  return {ops::pack_linear(weight.flatten(1)),
          load_tensor(store, name + ".bias", {kernel[0]}, placement)};
}

Tensor LayerNorm::operator()(const Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

LayerNorm load_layer_norm(ParamStore& store, const std::string& name, int64_t size, double eps,
                          const Placement& placement) {
  return {load_tensor(store, name + ".weight", {size}, placement),
          load_tensor(store, name + ".bias", {size}, placement), eps};
}

Tensor one_segment(int64_t rows) {
  return at::tensor({int32_t{0}, static_cast<int32_t>(rows)}, at::kInt);
}

Tensor TowerAttention::operator()(const Tensor& x, const TowerRows& rows) const {
  const int64_t count = x.size(0), width = x.size(1), dim = width / heads;
  const Tensor all = qkv(x).view({count, 3 * heads, dim});
  Tensor qk = all.narrow(1, 0, 2 * heads);
  if (rows.rope != nullptr) qk = ops::rope(qk, rows.rope->positions, rows.rope->table);
  const Tensor mixed = ops::segment_attention(qk.narrow(1, 0, heads), qk.narrow(1, heads, heads),
                                              all.narrow(1, 2 * heads, heads), rows.starts,
                                              1.0 / std::sqrt(static_cast<double>(dim)));
  return out(mixed.reshape({count, width}));
}

Tensor TowerBlock::operator()(const Tensor& x, const TowerRows& rows) const {
  const Tensor seen = x + attention(attention_norm(x), rows);
  return seen + fc2(at::gelu(fc1(mlp_norm(seen)), gelu));
}

std::string read_gelu(const HfJson& file, const char* key) {
  const std::string act = file.find<std::string>(key).value_or("gelu");
  AERIE_CHECK(act == "gelu" || act == "gelu_pytorch_tanh",
              "{}: \"{}\" is \"{}\", and only \"gelu\" and \"gelu_pytorch_tanh\" are supported",
              file.where(), key, act);
  return act == "gelu" ? "none" : "tanh";
}

}  // namespace aerie
