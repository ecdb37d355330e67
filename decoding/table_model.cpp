#include "decoding/table_model.h"

namespace aerie {

namespace {
constexpr int64_t kVocab = 16, kHidden = 1;
}  // namespace

TableModel::TableModel(int64_t max_position) : embed_(at::zeros({kVocab, kHidden})) {
  config_.layers = config_.heads = config_.kv_heads = config_.head_dim = 1;
  config_.hidden = kHidden;
  config_.vocab = kVocab;
  config_.max_position = max_position;
}

ForwardOutput TableModel::forward(const ForwardInput& input) const {
  ForwardOutput output;
  output.hidden = at::zeros({input.tokens.size(0), kHidden});
  if (!input.logit_rows.defined()) return output;
  const int64_t rows = input.logit_rows.size(0);
  output.logits = at::zeros({rows, kVocab});
  const int64_t* chosen = input.logit_rows.const_data_ptr<int64_t>();
  const int64_t* positions = input.positions.const_data_ptr<int64_t>();
  float* logits = output.logits.mutable_data_ptr<float>();
  for (int64_t row = 0; row < rows; ++row)
    logits[row * kVocab + positions[chosen[row]] % kVocab] = 1;
  return output;
}

}  // namespace aerie
