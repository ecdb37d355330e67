// WeDLM's objective in its plainest form, as an oracle: both streams of every document in full, one
// boolean matrix that says who sees whom, double precision.
#pragma once
#include <torch/types.h>

#include <cmath>
#include <map>
#include <vector>

#include "target_models/config.h"
#include "target_models/trainable.h"
#include "tests/trainer/dense_layers.h"

namespace aerie::testing {

/// A document with the places that are masked, and what a mask of each block weighs.
struct MaskedDocument {
  std::vector<int64_t> tokens;
  std::vector<bool> assistant, masked;
  std::vector<double> weight;  // by block
};

/// [2L,2L]: the clean stream, then the noisy one, blocks of `block`.
inline Tensor dual_stream_mask(int64_t length, int64_t block) {
  const Tensor row = at::arange(2 * length).remainder(length);
  const Tensor noisy = at::arange(2 * length).ge(length), blocks = row.div(block, "floor");
  const auto q = [](const Tensor& t) { return t.unsqueeze(1); };
  const auto k = [](const Tensor& t) { return t.unsqueeze(0); };
  const Tensor same_stream = q(noisy) == k(noisy);
  const Tensor own = same_stream & (q(blocks) == k(blocks)) & (k(row) <= q(row));
  const Tensor history = ~k(noisy) & (k(blocks) < q(blocks));
  return own | history;
}

class DenseDualStream {
 public:
  /// weights: f64 leaves by the names of read_trainable. embed, head [V,C] f64.
  DenseDualStream(const ModelConfig& config, std::map<std::string, Tensor> weights, Tensor embed,
                  Tensor head)
      : c_(config),
        weights_(std::move(weights)),
        embed_(std::move(embed)),
        head_(std::move(head)) {}

  Tensor loss(const std::vector<MaskedDocument>& documents, int64_t block, double ar_weight) const {
    std::vector<Tensor> masked, next, weights;
    for (const MaskedDocument& document : documents) {
      add_losses(document, block, masked, weights, next);
    }
    const Tensor w = at::stack(weights);
    const Tensor mlm = (at::stack(masked) * w).sum() / w.sum();
    return (mlm + ar_weight * at::stack(next).mean()) / (1 + ar_weight);
  }
  const Tensor& weight(const std::string& name) const { return weights_.at(name); }

 private:
  void add_losses(const MaskedDocument& document, int64_t block, std::vector<Tensor>& masked,
                  std::vector<Tensor>& weights, std::vector<Tensor>& next) const {
    const auto length = static_cast<int64_t>(document.tokens.size());
    std::vector<Tensor> rows;
    std::vector<int64_t> positions, place(length);  // place: row of a masked token
    for (int64_t i = 0; i < length; ++i) {
      rows.push_back(embed_.select(0, document.tokens[i]));
      positions.push_back(i);
    }
    for (int64_t begin = 0; begin < length; begin += block) {
      const int64_t end = std::min(length, begin + block);
      for (const bool masks : {false, true}) {
        for (int64_t i = begin; i < end; ++i) {
          if (document.masked[i] != masks) continue;
          place[i] = static_cast<int64_t>(rows.size());
          rows.push_back(masks ? weights_.at("mask_embedding")
                               : embed_.select(0, document.tokens[i]));
          positions.push_back(i);
        }
      }
    }
    const Tensor log_p =
        log_softmax_of(at::stack(rows), at::tensor(positions), dual_stream_mask(length, block));
    for (int64_t i = 0; i < length; ++i) {
      if (document.masked[i]) {
        masked.push_back(-log_p[place[i]][document.tokens[i]]);
        weights.push_back(at::scalar_tensor(document.weight[i / block], at::kDouble));
      }
      if (i > 0 && document.assistant[i]) next.push_back(-log_p[i - 1][document.tokens[i]]);
    }
  }

  Tensor norm(const Tensor& x, const std::string& name) const {
    return dense_norm(x, weights_.at(name), c_.rms_norm_eps);
  }

  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) const {
    const double scale = 1 / std::sqrt(static_cast<double>(c_.head_dim));
    std::vector<Tensor> heads;
    for (int64_t h = 0; h < c_.heads; ++h) {
      const int64_t group = h / (c_.heads / c_.kv_heads);
      const Tensor scores = (q.select(1, h) * scale).matmul(k.select(1, group).t());
      heads.push_back(
          at::softmax(scores.masked_fill(~mask, -INFINITY), 1).matmul(v.select(1, group)));
    }
    return at::stack(heads, 1).reshape({q.size(0), -1});
  }

  Tensor log_softmax_of(Tensor x, const Tensor& positions, const Tensor& mask) const {
    for (int64_t i = 0; i < c_.layers; ++i) {
      const std::string layer = fmt::format("model.layers.{}.", i), attn = layer + "self_attn.";
      Tensor qkv = norm(x, layer + "input_layernorm.weight")
                       .matmul(weights_.at(attn + "qkv_proj.weight").t());
      if (c_.qkv_bias) qkv = qkv + weights_.at(attn + "qkv_proj.bias");
      qkv = qkv.view({-1, c_.heads + 2 * c_.kv_heads, c_.head_dim});
      Tensor q = qkv.narrow(1, 0, c_.heads), k = qkv.narrow(1, c_.heads, c_.kv_heads);
      if (c_.qk_norm != QkNorm::kNone) {
        q = norm(q, attn + "q_norm.weight");
        k = norm(k, attn + "k_norm.weight");
      }
      const Tensor mixed = attend(dense_rotate(q, positions, c_.rope.theta),
                                  dense_rotate(k, positions, c_.rope.theta),
                                  qkv.narrow(1, c_.heads + c_.kv_heads, c_.kv_heads), mask);
      x = x + mixed.matmul(weights_.at(attn + "o_proj.weight").t());
      const auto gate_up = norm(x, layer + "post_attention_layernorm.weight")
                               .matmul(weights_.at(layer + "mlp.gate_up_proj.weight").t())
                               .chunk(2, 1);
      x = x + (at::silu(gate_up[0]) * gate_up[1])
                  .matmul(weights_.at(layer + "mlp.down_proj.weight").t());
    }
    return at::log_softmax(norm(x, "model.norm.weight").matmul(head_.t()), 1);
  }

  const ModelConfig& c_;
  std::map<std::string, Tensor> weights_;
  Tensor embed_, head_;
};

}  // namespace aerie::testing
