// The training-time test in its plainest form, as an oracle: every row at every depth, one
// [N, N + K] attention matrix a head, everything masked, in double precision. What the trainer
// leaves out as needless is computed here.
#pragma once
#include <torch/types.h>

#include <cmath>

#include "draft_models/draft.h"
#include "tests/trainer/dense_layers.h"
#include "trainer/hidden_states.h"

namespace aerie::testing {

struct DenseUnroll {
  const DraftConfig& config;
  const DraftParams& params;  // f64 leaves
  const TrainBatch& batch;    // f64 features
  const Tensor& embed;        // [V,C] f64
  const Tensor& head;         // [V,C] f64
  const VocabMap& vocab;

  /// Sum over depths of decay^k times the sum of KL over valid rows, and the number of these.
  std::pair<Tensor, int64_t> loss(int64_t unroll, double decay) const;

 private:
  Tensor norm(const Tensor& x, const std::string& name) const {
    return dense_norm(x, params.at(name), config.rms_norm_eps);
  }
  Tensor attend(const Tensor& q, const std::vector<Tensor>& keys, const std::vector<Tensor>& values,
                const Tensor& causal) const;
  Tensor divergence(const Tensor& state, const Tensor& label_hidden) const;
};

/// t[i + steps] at place i; zeros behind the end.
inline Tensor ahead(const Tensor& t, int64_t steps) {
  return at::cat({t.narrow(0, steps, t.size(0) - steps), at::zeros_like(t.narrow(0, 0, steps))});
}

inline Tensor DenseUnroll::attend(const Tensor& q, const std::vector<Tensor>& keys,
                                  const std::vector<Tensor>& values, const Tensor& causal) const {
  const double scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  const int64_t n = q.size(0), group = config.heads / config.kv_heads;
  std::vector<Tensor> outputs;
  for (int64_t h = 0; h < config.heads; ++h) {
    const Tensor query = q.select(1, h) * scale;
    const auto own = [&](const Tensor& t) { return t.select(1, h / group); };
    std::vector<Tensor> scores{query.matmul(own(keys[0]).t()).masked_fill(~causal, -INFINITY)};
    for (size_t s = 1; s < keys.size(); ++s) {
      scores.push_back((query * own(keys[s])).sum({-1}, true));
    }
    const Tensor weight = at::softmax(at::cat(scores, -1), -1);
    Tensor output = weight.narrow(1, 0, n).matmul(own(values[0]));
    for (size_t s = 1; s < values.size(); ++s) {
      output = output + weight.narrow(1, n + static_cast<int64_t>(s) - 1, 1) * own(values[s]);
    }
    outputs.push_back(output);
  }
  return at::stack(outputs, 1);
}

/// KL(p || q) of every row; 0 where the teacher's choice is outside the draft vocabulary.
inline Tensor DenseUnroll::divergence(const Tensor& state, const Tensor& label_hidden) const {
  const Tensor log_q =
      at::log_softmax(norm(state, "norm.weight").matmul(params.at("lm_head.weight").t()), -1);
  const Tensor logits = label_hidden.matmul(head.t());
  const Tensor log_p = at::log_softmax(logits.index_select(1, vocab.draft_to_target), -1);
  const Tensor known = vocab.target_to_draft.index_select(0, logits.argmax(-1)).ge(0);
  return (log_p.exp() * (log_p - log_q)).sum({-1}) * known;
}

inline std::pair<Tensor, int64_t> DenseUnroll::loss(int64_t unroll, double decay) const {
  const auto matrix = [&](const char* name) { return params.at(name).t(); };
  const int64_t n = batch.tokens.size(0), dim = config.head_dim;
  const Tensor row = at::arange(n);
  const Tensor document = at::searchsorted(batch.q_start.to(at::kLong), row, false, true);
  const Tensor causal = document.unsqueeze(1).eq(document).logical_and(row.unsqueeze(1).ge(row));
  // At depth k a row stands k tokens further; its own keys of earlier depths are between.
  const auto seen = [&](int64_t k) {
    if (config.window == 0) return causal;
    return causal.logical_and((row.unsqueeze(1) + k - row).lt(config.window));
  };
  const auto supervised = [&](int64_t steps) {
    return ahead(batch.loss_mask, steps).logical_and(ahead(document, steps).eq(document));
  };
  Tensor hidden = batch.captured.matmul(matrix("fc.weight")), valid = supervised(1);
  Tensor total = at::zeros({}, at::kDouble);
  std::vector<Tensor> keys, values;
  int64_t pairs = 0;
  for (int64_t k = 0; k < unroll; ++k) {
    const Tensor embedded = embed.index_select(0, ahead(batch.tokens, k + 1));
    const Tensor u = at::cat({norm(embedded, "midlayer.input_layernorm.weight"),
                              norm(hidden, "midlayer.hidden_norm.weight")},
                             1);
    const auto kv = u.matmul(matrix("midlayer.self_attn.kv_proj.weight")).chunk(2, 1);
    const Tensor q = u.matmul(matrix("midlayer.self_attn.q_proj.weight"));
    const auto rotate = [&](const Tensor& heads) {
      return dense_rotate(heads.view({n, -1, dim}), batch.positions + k, config.rope.theta);
    };
    keys.push_back(rotate(kv[0]));
    values.push_back(kv[1].view({n, -1, dim}));
    const Tensor mixed = attend(rotate(q), keys, values, seen(k));
    hidden = hidden + mixed.reshape({n, -1}).matmul(matrix("midlayer.self_attn.o_proj.weight"));
    const Tensor x = norm(hidden, "midlayer.post_attention_layernorm.weight");
    const auto gate_up = x.matmul(matrix("midlayer.mlp.gate_up_proj.weight")).chunk(2, 1);
    hidden = hidden +
             (at::silu(gate_up[0]) * gate_up[1]).matmul(matrix("midlayer.mlp.down_proj.weight"));
    valid = valid.logical_and(supervised(k + 2));
    const Tensor loss = divergence(hidden, ahead(batch.last_hidden, k + 1));
    total = total + std::pow(decay, k) * loss.masked_select(valid).sum();
    pairs += valid.sum().item<int64_t>();
  }
  return {total, pairs};
}

}  // namespace aerie::testing
