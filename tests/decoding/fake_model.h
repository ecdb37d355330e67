// A target whose next token is a hash of everything it can see through the page table: any mistake
// in slots, pages, positions, rollback or masks changes the output. No weights, microseconds a row.
// It may know a mask of diffusion: such a row tells the token at its own place.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "common/error.h"
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
      float* data = output.captured.mutable_data_ptr<float>();
      for (int64_t row = 0, width = output.captured.size(1); row < rows; ++row) {
        std::fill_n(data + row * width, width, static_cast<float>(states[row] % 1000));
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
  int64_t mask_token = -1;  // the last of the vocabulary, never said
  double mask_skill = 0.7;  // share of the places where masks are right

 private:
  static uint64_t mix(uint64_t state, uint64_t token, uint64_t position) {
    state ^= token * 0x9E3779B97F4A7C15ull + position * 0xC2B2AE3D27D4EB4Full;
    state = (state ^ (state >> 29)) * 0xBF58476D1CE4E5B9ull;
    return state ^ (state >> 32);
  }

  // Token and position lie in the pool itself, as a key of head size 16: what moves rows moves
  // them.
  static float* key_at(KvPool& pool, int64_t slot) {
    return pool.k[0].mutable_data_ptr<float>() + slot * pool.head_dim;
  }

  void store(const ForwardInput& input) const {
    const int64_t *slots = input.layout.slots.const_data_ptr<int64_t>(),
                  *tokens = input.tokens.const_data_ptr<int64_t>(),
                  *positions = input.positions.const_data_ptr<int64_t>();
    for (int64_t row = 0; row < input.tokens.size(0); ++row) {
      AERIE_CHECK(slots[row] >= 0 && slots[row] < input.kv->pages * KvPool::kPageSize,
                  "row {} goes to slot {}", row, slots[row]);
      float* key = key_at(*input.kv, slots[row]);
      key[0] = static_cast<float>(tokens[row]);
      key[1] = static_cast<float>(positions[row]);
    }
  }

  void hash_chunk(const ForwardInput& input, int64_t s, std::vector<uint64_t>& states) const {
    const RaggedLayout& layout = input.layout;
    const int32_t *starts = layout.q_start.const_data_ptr<int32_t>(),
                  *pages = layout.pages.const_data_ptr<int32_t>() + s * layout.pages.size(1);
    const int64_t begin = starts[s], rows = starts[s + 1] - begin;
    const int64_t base = layout.kv_len.const_data_ptr<int32_t>()[s] - rows;
    const auto add = [&](uint64_t state, int64_t i) {
      const int64_t slot = pages[i / KvPool::kPageSize] * KvPool::kPageSize + i % KvPool::kPageSize;
      const float* key = key_at(*input.kv, slot);
      return mix(state, static_cast<uint64_t>(key[0]), static_cast<uint64_t>(key[1]));
    };
    uint64_t prefix = 0;
    for (int64_t i = 0; i < base; ++i) prefix = add(prefix, i);
    for (int64_t row = 0; row < rows; ++row) {
      const bool* sees = layout.tree.defined()
                             ? layout.tree.const_data_ptr<bool>() +
                                   (s * layout.tree.size(1) + row) * layout.tree.size(2)
                             : nullptr;
      uint64_t state = prefix;
      for (int64_t other = 0; other <= row; ++other) {
        if (sees == nullptr || sees[other]) state = add(state, base + other);
      }
      states[begin + row] = state;
    }
    if (mask_token >= 0) guess_masks(input, s, states);
  }

  // A mask sees the text and everything filled, and takes the likeliest text between them.
  void guess_masks(const ForwardInput& input, int64_t s, std::vector<uint64_t>& states) const {
    const int32_t* starts = input.layout.q_start.const_data_ptr<int32_t>();
    const int32_t* pages =
        input.layout.pages.const_data_ptr<int32_t>() + s * input.layout.pages.size(1);
    const int64_t rows = starts[s + 1] - starts[s];
    const int64_t length = input.layout.kv_len.const_data_ptr<int32_t>()[s];
    std::map<int64_t, int32_t> seen;  // by position
    for (int64_t i = 0; i < length; ++i) {
      const int64_t slot = pages[i / KvPool::kPageSize] * KvPool::kPageSize + i % KvPool::kPageSize;
      const float* key = key_at(*input.kv, slot);
      const auto token = static_cast<int32_t>(key[0]), position = static_cast<int32_t>(key[1]);
      if (token != mask_token) {
        seen[position] = token;
        continue;
      }
      AERIE_CHECK(i >= length - rows, "a mask stays in the cache, at row {}", i);
      states[starts[s] + i - (length - rows)] = mask_state(seen, position);
    }
  }

  uint64_t mask_state(const std::map<int64_t, int32_t>& seen, int64_t position) const {
    std::vector<int32_t> text;
    uint64_t state = 0;
    for (int64_t at = 0; at < position; ++at) {
      const auto known = seen.find(at);
      text.push_back(known != seen.end() ? known->second : greedy_after(text));
      state = mix(state, text.back(), at);
    }
    return counter_uniform(99, position) < mask_skill ? state : ~state;
  }

  void fill(float* row, uint64_t state) const {
    for (int64_t v = 0; v < config_.vocab; ++v) {
      row[v] = static_cast<float>(sharpness_ * counter_uniform(state, v));
    }
    if (mask_token >= 0) row[mask_token] = -std::numeric_limits<float>::infinity();
  }

  Tensor logits(const Tensor& rows, const std::vector<uint64_t>& states) const {
    Tensor out = at::empty({rows.size(0), config_.vocab});
    const int64_t* row = rows.const_data_ptr<int64_t>();
    for (int64_t r = 0; r < rows.size(0); ++r) {
      fill(out.mutable_data_ptr<float>() + r * config_.vocab, states[row[r]]);
    }
    return out;
  }

  double sharpness_;
  ModelConfig config_;
  Tensor embed_;
  ops::LinearWeight head_;
};

/// One that knows masks, beside `words` tokens that it says.
inline FakeModel masked_model(int64_t words = 50, double sharpness = 6.0) {
  FakeModel model(words + 1, 4096, sharpness);
  model.mask_token = words;
  return model;
}

}  // namespace aerie::testing
