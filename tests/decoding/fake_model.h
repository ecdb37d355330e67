// A target whose next token is a hash of everything it can see through the page table: any mistake
// in slots, pages, positions, rollback or masks changes the output. No weights, microseconds a row.
#pragma once
#include <cmath>
#include <vector>

#include "decoding/sampler.h"
#include "target_models/model.h"

namespace aerie::testing {

class FakeModel : public TargetModel {
 public:
  explicit FakeModel(int64_t vocab = 50, int64_t max_position = 4096, double sharpness = 6.0)
      : sharpness_(sharpness) {
    config_.layers = 1;
    config_.hidden = 4;
    config_.heads = config_.kv_heads = 1;
    config_.head_dim = 16;
    config_.vocab = vocab;
    config_.max_position = max_position;
    embed_ = at::zeros({vocab, 4});
  }

  ForwardOutput forward(const ForwardInput& input) const override {
    const RaggedLayout& layout = input.layout;
    store(input);
    std::vector<uint64_t> states(input.tokens.size(0));
    for (int64_t s = 0; s + 1 < layout.q_start.size(0); ++s) hash_chunk(input, s, states);
    ForwardOutput output;
    const int64_t rows = static_cast<int64_t>(states.size());
    output.hidden = at::zeros({rows, config_.hidden});
    if (!input.capture_layers.empty()) {
      output.captured = at::empty({rows, static_cast<int64_t>(input.capture_layers.size()) * 4});
      for (int64_t row = 0; row < rows; ++row) {
        output.captured[row].fill_(static_cast<double>(states[row] % 1000));
      }
    }
    if (input.logit_rows.defined()) output.logits = logits(input.logit_rows, states);
    ++forwards;
    return output;
  }

  /// The law's logits after `tokens`, computed without engine.
  std::vector<float> logits_after(const std::vector<int32_t>& tokens) const {
    uint64_t state = 0;
    for (size_t i = 0; i < tokens.size(); ++i) state = mix(state, tokens[i], i);
    std::vector<float> row(config_.vocab);
    fill(row.data(), state);
    return row;
  }
  int32_t greedy_after(const std::vector<int32_t>& tokens) const {
    return argmax(logits_after(tokens));
  }

  const ModelConfig& config() const override { return config_; }
  const Tensor& embed_weight() const override { return embed_; }
  const ops::LinearWeight& head() const override { return head_; }
  Tensor head_rows(const Tensor& ids) const override { return embed_.index_select(0, ids); }
  at::ScalarType dtype() const override { return at::kFloat; }
  at::Device device() const override { return at::kCPU; }

  mutable int64_t forwards = 0;

 private:
  static uint64_t mix(uint64_t state, uint64_t token, uint64_t position) {
    state ^= token * 0x9E3779B97F4A7C15ull + position * 0xC2B2AE3D27D4EB4Full;
    state = (state ^ (state >> 29)) * 0xBF58476D1CE4E5B9ull;
    return state ^ (state >> 32);
  }

  void store(const ForwardInput& input) const {
    const size_t slots = input.kv->pages * KvPool::kPageSize;
    if (cache_.size() < slots) cache_.resize(slots, {-1, -1});
    for (int64_t row = 0; row < input.tokens.size(0); ++row) {
      cache_.at(input.layout.slots[row].item<int64_t>()) = {input.tokens[row].item<int64_t>(),
                                                            input.positions[row].item<int64_t>()};
    }
  }

  void hash_chunk(const ForwardInput& input, int64_t s, std::vector<uint64_t>& states) const {
    const RaggedLayout& layout = input.layout;
    const int64_t begin = layout.q_start[s].item<int64_t>();
    const int64_t rows = layout.q_start[s + 1].item<int64_t>() - begin;
    const int64_t base = layout.kv_len[s].item<int64_t>() - rows;
    const auto cached = [&](int64_t i) {
      const int64_t page = layout.pages[s][i / KvPool::kPageSize].item<int64_t>();
      return cache_.at(page * KvPool::kPageSize + i % KvPool::kPageSize);
    };
    uint64_t prefix = 0;
    for (int64_t i = 0; i < base; ++i) prefix = mix(prefix, cached(i).first, cached(i).second);
    for (int64_t row = 0; row < rows; ++row) {
      uint64_t state = prefix;
      for (int64_t other = 0; other <= row; ++other) {
        if (layout.tree.defined() && !layout.tree[s][row][other].item<bool>()) continue;
        state = mix(state, cached(base + other).first, cached(base + other).second);
      }
      states[begin + row] = state;
    }
  }

  void fill(float* row, uint64_t state) const {
    for (int64_t v = 0; v < config_.vocab; ++v) {
      row[v] = static_cast<float>(sharpness_ * counter_uniform(state, v));
    }
  }

  Tensor logits(const Tensor& rows, const std::vector<uint64_t>& states) const {
    Tensor out = at::empty({rows.size(0), config_.vocab});
    for (int64_t r = 0; r < rows.size(0); ++r) {
      fill(out.mutable_data_ptr<float>() + r * config_.vocab, states[rows[r].item<int64_t>()]);
    }
    return out;
  }

  double sharpness_;
  ModelConfig config_;
  Tensor embed_;
  ops::LinearWeight head_;
  mutable std::vector<std::pair<int64_t, int64_t>> cache_;  // token and position of every slot
};

}  // namespace aerie::testing
