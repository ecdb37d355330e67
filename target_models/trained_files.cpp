#include "target_models/trained_files.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "data/safetensors.h"
#include "target_models/params.h"
#include "target_models/trainable.h"

namespace aerie {
namespace {

constexpr const char* kEmbed = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

/// A tensor of read_trainable and the file's tensors that it consists of, on top of each other.
struct Joined {
  std::string name;
  std::vector<std::string> parts;
  std::vector<int64_t> rows;
  int64_t columns = 0;  // 0: vectors
};

std::vector<Joined> joined_tensors(const ModelConfig& c) {
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  std::vector<Joined> all;
  const auto add = [&](const std::string& prefix, const char* as, std::vector<std::string> names,
                       std::vector<int64_t> rows, int64_t columns) {
    for (std::string& name : names) name.insert(0, prefix);
    all.push_back({prefix + as, std::move(names), std::move(rows), columns});
  };
  const auto single = [&](const std::string& prefix, const char* name, int64_t rows,
                          int64_t columns) { add(prefix, name, {name}, {rows}, columns); };
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i), attn = layer + "self_attn.";
    single(layer, "input_layernorm.weight", c.hidden, 0);
    add(attn, "qkv_proj.weight", {"q_proj.weight", "k_proj.weight", "v_proj.weight"}, {q, kv, kv},
        c.hidden);
    if (c.qkv_bias) {
      add(attn, "qkv_proj.bias", {"q_proj.bias", "k_proj.bias", "v_proj.bias"}, {q, kv, kv}, 0);
    }
    if (c.qk_norm != QkNorm::kNone) {
      single(attn, "q_norm.weight", c.head_dim, 0);
      single(attn, "k_norm.weight", c.head_dim, 0);
    }
    single(attn, "o_proj.weight", c.hidden, q);
    single(layer, "post_attention_layernorm.weight", c.hidden, 0);
    add(layer, "mlp.gate_up_proj.weight", {"mlp.gate_proj.weight", "mlp.up_proj.weight"},
        {c.intermediate, c.intermediate}, c.hidden);
    single(layer, "mlp.down_proj.weight", c.hidden, c.intermediate);
  }
  single("", "model.norm.weight", c.hidden, 0);
  return all;
}

std::vector<int64_t> shape_of(int64_t rows, int64_t columns) {
  return columns == 0 ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, columns};
}

/// The vocabulary matrix with the mask's row in it.
Tensor with_mask(const Tensor& matrix, const Tensor& row, int64_t mask_token) {
  const Tensor line = row.to(matrix.scalar_type()).unsqueeze(0);
  if (mask_token < 0) return at::cat({matrix, line});
  Tensor replaced = matrix.clone();
  replaced.narrow(0, mask_token, 1).copy_(line);
  return replaced;
}

void write_config(const fs::path& source, const fs::path& output, const ModelConfig& config) {
  auto json = nlohmann::ordered_json::parse(read_file(source / "config.json"));
  if (config.mask_token < 0) {
    json["vocab_size"] = config.vocab + 1;
    json["mask_token_id"] = config.vocab;
  }
  write_file_atomic(output / "config.json", json.dump(2) + "\n");
}

/// Tokenizer, template, generation settings: all that is no weight and no config.
void copy_other_files(const fs::path& source, const fs::path& output) {
  for (const auto& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    const std::string kind = entry.path().extension().string();
    const bool text = kind == ".json" || kind == ".jinja" || kind == ".txt" || kind == ".model";
    if (!entry.is_regular_file() || !text || name == "config.json" ||
        name.find("safetensors") != std::string::npos) {
      continue;
    }
    fs::copy_file(entry.path(), output / name, fs::copy_options::overwrite_existing);
  }
}

const Tensor& weight_named(const NamedTensors& weights, const std::string& name) {
  for (const auto& [known, tensor] : weights) {
    if (known == name) return tensor;
  }
  fail("the weights to write have no \"{}\"", name);
}

}  // namespace

ModelConfig trainable_config(const fs::path& directory) {
  ModelConfig config = read_model_config(directory);
  AERIE_CHECK(config.moe.experts == 0 && !config.gemma.on && config.rope.axes() == 1 &&
                  config.qk_norm != QkNorm::kAfterRope && config.text_vocab == 0,
              "{}: targets of model_type \"{}\" cannot be trained yet: llama, qwen2 and qwen3 can",
              (directory / "config.json").string(), config.model_type);
  return config;
}

Vocabulary read_vocabulary(const fs::path& directory, const ModelConfig& config) {
  ParamStore store(directory);
  const std::vector<int64_t> shape{config.vocab, config.hidden};
  return {store.take(kEmbed, shape).clone(),
          store.take(config.tied_head ? kEmbed : kHead, shape).clone()};
}

NamedTensors read_trainable(const fs::path& directory) {
  const ModelConfig config = trainable_config(directory);
  ParamStore store(directory);
  NamedTensors weights;
  for (const Joined& joined : joined_tensors(config)) {
    std::vector<Tensor> parts;
    for (size_t i = 0; i < joined.parts.size(); ++i) {
      parts.push_back(store.take(joined.parts[i], shape_of(joined.rows[i], joined.columns)));
    }
    weights.emplace_back(joined.name, at::cat(parts).to(at::kFloat, false, /*copy=*/true));
  }
  const Tensor embed = store.take(kEmbed, {config.vocab, config.hidden});
  const Tensor mask = config.mask_token < 0 ? embed.to(at::kFloat).mean(0)
                                            : embed.select(0, config.mask_token).to(at::kFloat);
  weights.emplace_back("mask_embedding", mask.clone());
  return weights;
}

void write_trained(const fs::path& source, const fs::path& output, const NamedTensors& weights) {
  const ModelConfig config = trainable_config(source);
  const Vocabulary vocabulary = read_vocabulary(source, config);
  const at::ScalarType type = vocabulary.embed.scalar_type();
  const Tensor mask = weight_named(weights, "mask_embedding").detach();
  std::vector<std::pair<std::string, Tensor>> tensors;
  tensors.emplace_back(kEmbed, with_mask(vocabulary.embed, mask, config.mask_token));
  for (const Joined& joined : joined_tensors(config)) {
    const Tensor whole = weight_named(weights, joined.name).detach().to(type);
    int64_t begin = 0;
    for (size_t i = 0; i < joined.parts.size(); ++i) {
      tensors.emplace_back(joined.parts[i], whole.narrow(0, begin, joined.rows[i]).contiguous());
      begin += joined.rows[i];
    }
  }
  if (!config.tied_head) {
    // Nobody ever says the mask: its logit does not matter.
    const Tensor nothing = at::zeros({config.hidden}, vocabulary.head.options());
    tensors.emplace_back(
        kHead, config.mask_token < 0 ? with_mask(vocabulary.head, nothing, -1) : vocabulary.head);
  }
  fs::create_directories(output);
  copy_other_files(source, output);
  write_safetensors(output / "model.safetensors", tensors, {{"format", "pt"}});
  write_config(source, output, config);
}

}  // namespace aerie
