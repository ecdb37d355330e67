// Names, shapes and first values of a draft's tensors.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/full.h>
#include <ATen/ops/normal.h>
#include <ATen/ops/ones.h>

#include "common/error.h"
#include "common/files.h"
#include "draft_models/draft.h"

namespace aerie {

std::string layer_prefix(int64_t layer) {
  return layer == 0 ? "midlayer." : fmt::format("layers.{}.", layer);
}

namespace {

void add_layer(const DraftConfig& c, int64_t index, std::vector<ParamShape>& shapes) {
  const std::string layer = layer_prefix(index), attn = layer + "self_attn.", mlp = layer + "mlp.";
  const int64_t q_rows = c.heads * c.head_dim, kv_rows = c.kv_heads * c.head_dim;
  const int64_t inputs = index == 0 ? 2 * c.hidden : c.hidden;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    shapes.push_back({name + ".weight", std::move(shape)});
  };
  if (index == 0) add(layer + "hidden_norm", {c.hidden});
  add(layer + "input_layernorm", {c.hidden});
  add(layer + "post_attention_layernorm", {c.hidden});
  add(attn + "q_proj", {q_rows, inputs});
  add(attn + "kv_proj", {2 * kv_rows, inputs});
  add(attn + "o_proj", {c.hidden, q_rows});
  if (c.qk_norm) {
    add(attn + "q_norm", {c.head_dim});
    add(attn + "k_norm", {c.head_dim});
  }
  add(mlp + "gate_up_proj", {2 * c.intermediate, c.hidden});
  add(mlp + "down_proj", {c.hidden, c.intermediate});
}

}  // namespace

std::vector<ParamShape> draft_param_shapes(const DraftConfig& c) {
  const auto captured = static_cast<int64_t>(c.capture_layers.size());
  std::vector<ParamShape> shapes{{"fc.weight", {c.hidden, captured * c.target_hidden}}};
  for (int64_t i = 0; c.fc_norm && i < captured; ++i) {
    shapes.push_back({fmt::format("fc_norm.{}.weight", i), {c.target_hidden}});
  }
  for (int64_t layer = 0; layer < c.layers; ++layer) add_layer(c, layer, shapes);
  shapes.push_back({"norm.weight", {c.hidden}});
  shapes.push_back({"lm_head.weight", {c.draft_vocab, c.hidden}});
  return shapes;
}

const Tensor& DraftParams::at(const std::string& name) const {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  fail("a draft has no tensor \"{}\"", name);
}

Tensor& DraftParams::at(const std::string& name) {
  return const_cast<Tensor&>(std::as_const(*this).at(name));
}

DraftParams init_draft(const DraftConfig& config, const DraftStart& start, uint64_t seed) {
  DraftParams params;
  size_t used = 0;
  for (const auto& [name, shape] : draft_param_shapes(config)) {
    Tensor value;
    if (const auto given = start.find(name); given != start.end()) {
      AERIE_CHECK(given->second.sizes() == at::IntArrayRef(shape),
                  "init_draft: {} starts from [{}] where the draft has [{}]", name,
                  fmt::join(given->second.sizes(), ","), fmt::join(shape, ","));
      value = given->second.to(at::kCPU, at::kFloat, false, /*copy=*/true).contiguous();
      ++used;
    } else if (shape.size() == 1) {
      value = at::ones(shape, at::kFloat);
    } else {
      // A stream of its own for each name: a tensor's values do not depend on the others.
      const auto generator = at::detail::createCPUGenerator(hash_bytes(name, seed));
      value = at::normal(0.0, 0.02, shape, generator);
    }
    params.tensors.emplace_back(name, value);
  }
  AERIE_CHECK(used == start.size(), "init_draft: {} of {} names to start from are not a draft's",
              start.size() - used, start.size());
  return params;
}

VocabMap make_vocab_map(const Tensor& draft_to_target, int64_t vocab) {
  const Tensor ids = draft_to_target.to(at::kCPU, at::kLong).contiguous();
  Tensor back = at::full({vocab}, -1, at::kLong);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  int64_t* draft_of = back.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    AERIE_CHECK(id[i] >= 0 && id[i] < vocab,
                "draft id {} stands for target id {}, outside the vocabulary of {} tokens", i,
                id[i], vocab);
    AERIE_CHECK(draft_of[id[i]] < 0, "draft ids {} and {} stand for the same target id {}",
                draft_of[id[i]], i, id[i]);
    draft_of[id[i]] = i;
  }
  return {ids, back};
}

}  // namespace aerie
