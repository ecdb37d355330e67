// What the tests of target models share: goldens, layouts.
#pragma once
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "common/error.h"
#include "common/files.h"
#include "data/safetensors.h"
#include "target_models/model.h"
#include "tests/testing.h"

namespace aerie::testing {

using at::Tensor;

inline std::map<std::string, Tensor> read_values(const fs::path& file) {
  std::map<std::string, Tensor> values;
  const SafetensorsFile safetensors(file);
  for (const std::string& name : safetensors.names()) {
    values[name] = safetensors.tensor(name).clone();
  }
  return values;
}

/// A writable copy of a golden model.
inline fs::path copy_model(const Scratch& scratch, const std::string& name) {
  fs::copy(golden_dir() / "models" / name, scratch / name, fs::copy_options::recursive);
  return scratch / name;
}

inline void write_text(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

/// Replaces the one occurrence of `from`.
inline void edit_text(const fs::path& file, const std::string& from, const std::string& to) {
  std::string text = read_file(file);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << file << " holds no " << from;
  text.replace(at, from.size(), to);
  write_text(file, text);
}

inline Tensor int32s(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).to(at::kInt);
}

/// 0..n-1 of each document
inline Tensor positions_of(const Tensor& q_start) {
  std::vector<Tensor> parts;
  for (int64_t s = 0; s + 1 < q_start.numel(); ++s) {
    parts.push_back(at::arange((q_start[s + 1] - q_start[s]).item<int64_t>(), at::kLong));
  }
  return at::cat(parts);
}

/// Documents side by side, without cache.
inline ForwardInput packed_input(const Tensor& tokens, const Tensor& q_start) {
  ForwardInput input;
  input.tokens = tokens;
  input.positions = positions_of(q_start);
  input.layout.q_start = q_start;
  input.logit_rows = at::arange(tokens.numel(), at::kLong);
  return input;
}

inline std::vector<int64_t> all_layers(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < config.layers; ++i) layers.push_back(i);
  return layers;
}

inline double max_error(const Tensor& value, const Tensor& expected) {
  EXPECT_EQ(value.sizes(), expected.sizes());
  return (value.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace aerie::testing
