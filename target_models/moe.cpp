#include "target_models/moe.h"

#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

#include "target_models/hf_json.h"

namespace aerie {
namespace {

/// The weights [O,I] of all experts in one tensor: inputs before outputs in the published files,
/// outputs first where transformers 5 wrote them.
std::vector<ops::LinearWeight> load_stacked(ParamStore& store, const std::string& name,
                                            int64_t experts, int64_t out, int64_t in,
                                            const Placement& placement) {
  const std::vector<int64_t> outputs_first{experts, out, in};
  const Tensor all = store.has(name) && store.shape_of(name) == outputs_first
                         ? store.take(name, outputs_first)
                         : store.take(name, {experts, in, out}).transpose(1, 2);
  std::vector<ops::LinearWeight> weights;
  for (int64_t e = 0; e < experts; ++e) {
    weights.push_back(ops::pack_linear(all[e].to(placement.device, placement.dtype).contiguous()));
  }
  store.drop(name);
  return weights;
}

/// Experts side by side in two tensors (Qwen3-VL-MoE).
std::vector<ops::Expert> load_stacked_experts(ParamStore& store, const ModelConfig& config,
                                              const std::string& prefix,
                                              const Placement& placement) {
  const int64_t count = config.moe.experts, inner = config.moe.intermediate;
  auto gate_up =
      load_stacked(store, prefix + "gate_up_proj", count, 2 * inner, config.hidden, placement);
  auto down = load_stacked(store, prefix + "down_proj", count, config.hidden, inner, placement);
  std::vector<ops::Expert> experts;
  for (size_t e = 0; e < gate_up.size(); ++e) {
    experts.push_back({std::move(gate_up[e]), std::move(down[e])});
  }
  return experts;
}

/// Experts lie one by one in the file, each a gated MLP.
std::vector<ops::Expert> load_experts(ParamStore& store, const ModelConfig& config,
                                      const std::string& prefix, const Placement& placement) {
  if (store.has(prefix + "experts.gate_up_proj")) {
    return load_stacked_experts(store, config, prefix + "experts.", placement);
  }
  const int64_t inner = config.moe.intermediate;
  std::vector<ops::Expert> experts;
  for (int64_t e = 0; e < config.moe.experts; ++e) {
    const std::string expert = fmt::format("{}experts.{}.", prefix, e);
    experts.push_back(
        {load_linear(store, {expert + "gate_proj.weight", expert + "up_proj.weight"},
                     {inner, inner}, config.hidden, placement),
         load_linear(store, {expert + "down_proj.weight"}, {config.hidden}, inner, placement)});
  }
  return experts;
}

/// The expert that every token uses, behind a sigmoid gate.
FeedForward load_shared_expert(ParamStore& store, const ModelConfig& config,
                               const std::string& prefix, const Placement& placement) {
  FeedForward expert = load_gated_mlp(store, config, config.moe.shared_intermediate,
                                      prefix + "shared_expert.", placement);
  auto gate =
      load_linear(store, {prefix + "shared_expert_gate.weight"}, {1}, config.hidden, placement);
  return [expert = std::move(expert), gate = std::move(gate)](const Tensor& x) {
    return expert(x).mul_(ops::linear(x, gate).sigmoid_());
  };
}

/// Layers without experts: those that are named, and those that the step leaves out.
std::vector<int64_t> read_dense_layers(const HfJson& file, int64_t layers) {
  const auto named =
      file.find<std::vector<int64_t>>("mlp_only_layers").value_or(std::vector<int64_t>{});
  const int64_t step =
      file.has("decoder_sparse_step") ? file.require_size("decoder_sparse_step") : 1;
  std::vector<int64_t> dense;
  for (int64_t i = 0; i < layers; ++i) {
    const bool is_named = std::find(named.begin(), named.end(), i) != named.end();
    if (is_named || (i + 1) % step != 0) dense.push_back(i);
  }
  return dense;
}

}  // namespace

void read_moe(const HfJson& file, ModelConfig& config) {
  MoeConfig& moe = config.moe;
  // transformers 5 writes the newer name.
  const char* count = file.has("num_local_experts") ? "num_local_experts" : "num_experts";
  moe.experts = file.require_size(count);
  moe.experts_per_token = file.require_size("num_experts_per_tok");
  AERIE_CHECK(moe.experts_per_token <= moe.experts,
              "{}: \"num_experts_per_tok\" is {}, more than the {} experts", file.where(),
              moe.experts_per_token, moe.experts);
  moe.intermediate = file.require_size("moe_intermediate_size");
  moe.normalise = file.require<bool>("norm_topk_prob");
  if (file.has("shared_expert_intermediate_size")) {
    moe.shared_intermediate = file.require_size("shared_expert_intermediate_size");
  }
  moe.dense_layers = read_dense_layers(file, config.layers);
  // Only Qwen2-MoE can say so; its other projections never have biases.
  config.qkv_bias = config.qkv_bias && file.find<bool>("qkv_bias").value_or(true);
}

FeedForward load_moe(ParamStore& store, const ModelConfig& config, const std::string& prefix,
                     const Placement& placement) {
  const MoeConfig& moe = config.moe;
  auto router =
      load_linear(store, {prefix + "gate.weight"}, {moe.experts}, config.hidden, placement);
  FeedForward shared;
  if (moe.shared_intermediate > 0) shared = load_shared_expert(store, config, prefix, placement);
  return [experts = load_experts(store, config, prefix, placement), router = std::move(router),
          shared = std::move(shared), count = moe.experts_per_token,
          normalise = moe.normalise](const Tensor& x) {
    const Tensor share = at::softmax(ops::linear(x, router), -1, at::kFloat);
    auto [weights, chosen] = at::topk(share, count, -1);
    if (normalise) weights = weights / weights.sum(-1, true);
    // Rounded as the router's own type, which is what the model was trained with.
    weights = weights.to(x.scalar_type()).to(at::kFloat);
    Tensor out = ops::mixture(x, chosen, weights, experts);
    return shared ? out.add_(shared(x)) : out;
  };
}

}  // namespace aerie
