// Reads the reference values that scripts/make_golden_kernels.py writes, and compares tensors.
#pragma once
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <stdexcept>

#include "tests/testing.h"

namespace aerie::testing {

using at::Tensor;
using Golden = std::map<std::string, Tensor>;

template <typename T>
T read_value(std::ifstream& file) {
  T value{};
  file.read(reinterpret_cast<char*>(&value), sizeof value);
  if (!file)
    throw std::runtime_error("a golden file ends too early: run scripts/make_golden_kernels.py");
  return value;
}

inline Golden read_golden(const std::string& name) {
  const fs::path path = golden_dir() / "kernels" / (name + ".bin");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  Golden golden;
  const int32_t count = read_value<int32_t>(file);
  for (int32_t i = 0; i < count; ++i) {
    std::string key(static_cast<size_t>(read_value<int32_t>(file)), '\0');
    file.read(key.data(), static_cast<std::streamsize>(key.size()));
    const bool whole = read_value<int32_t>(file) != 0;
    std::vector<int64_t> sizes(static_cast<size_t>(read_value<int32_t>(file)));
    for (int64_t& size : sizes) size = read_value<int64_t>(file);
    Tensor tensor = at::empty(sizes, whole ? at::kLong : at::kFloat);
    file.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
    golden.emplace(key, tensor);
  }
  return golden;
}

/// max |a - b| / max |b|
inline double relative_error(const Tensor& value, const Tensor& expected) {
  if (!value.defined() || value.sizes() != expected.sizes()) return 1e30;
  const Tensor a = value.detach().to(at::kDouble), b = expected.detach().to(at::kDouble);
  const double scale = b.numel() == 0 ? 0 : b.abs().max().item<double>();
  const double error = b.numel() == 0 ? 0 : (a - b).abs().max().item<double>();
  return scale > 0 ? error / scale : error;
}

/// ||a - b|| / ||b||: for bf16, where single elements are rounded.
inline double norm_error(const Tensor& value, const Tensor& expected) {
  if (!value.defined() || value.sizes() != expected.sizes()) return 1e30;
  const Tensor a = value.detach().to(at::kDouble), b = expected.detach().to(at::kDouble);
  return ((a - b).norm() / b.norm().clamp_min(1e-30)).item<double>();
}

/// A fresh leaf with its own storage.
inline Tensor leaf(const Tensor& value, at::ScalarType type) {
  return value.detach().to(type, false, true).requires_grad_();
}

}  // namespace aerie::testing
