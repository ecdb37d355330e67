#include "target_models/patch_grid.h"

#include <ATen/ops/upsample_bilinear2d.h>

#include <algorithm>
#include <cmath>

#include "common/error.h"

namespace aerie {
namespace {

constexpr double kPatchTheta = 10000;  // a constant of the published code

}  // namespace

Tensor token_order(const PatchGrid& grid, const Tensor& x) {
  const int64_t m = grid.merge;
  return x.reshape({grid.rows, m, grid.columns, m, -1}).transpose(1, 2).reshape(x.sizes());
}

Tensor resample_positions(const Tensor& table, const PatchGrid& grid, bool align_corners) {
  const int64_t side = std::llround(std::sqrt(static_cast<double>(table.size(0))));
  AERIE_CHECK(side * side == table.size(0),
              "the vision tower has {} learned positions, which fill no square: check "
              "config.json's vision_config",
              table.size(0));
  const Tensor square = table.to(at::kFloat).view({1, side, side, -1}).permute({0, 3, 1, 2});
  const Tensor resampled = at::upsample_bilinear2d(
      square, {grid.rows * grid.merge, grid.columns * grid.merge}, align_corners);
  return resampled.permute({0, 2, 3, 1}).reshape({grid.patches(), -1});
}

ops::RopeTable patch_rope_table(const PatchGrid& grid, int64_t head_dim) {
  const int64_t half = head_dim / 2, m = grid.merge;
  const Tensor exponent = at::arange(0, half, 2, at::kLong).to(at::kFloat) / half;
  const Tensor frequencies = at::pow(kPatchTheta, exponent).reciprocal();  // [D/4]
  const std::vector<int64_t> size{grid.rows * m, grid.columns * m};
  const auto angles_of = [&](const Tensor& places) {
    return token_order(grid, places.expand(size).reshape({-1, 1})) * frequencies;
  };
  const Tensor y = at::arange(size[0], at::kFloat).unsqueeze(1);
  const Tensor x = at::arange(size[1], at::kFloat).unsqueeze(0);
  const Tensor angles = at::cat({angles_of(y), angles_of(x)}, 1);
  return {.cos = angles.cos(), .sin = angles.sin()};
}

WindowOrder order_by_window(const PatchGrid& grid, int64_t side) {
  std::vector<int64_t> order, inverse(static_cast<size_t>(grid.tokens()));
  std::vector<int32_t> starts{0};
  const auto patches = static_cast<int32_t>(grid.merge * grid.merge);
  for (int64_t top = 0; top < grid.rows; top += side) {
    for (int64_t left = 0; left < grid.columns; left += side) {
      for (int64_t y = top; y < std::min(top + side, grid.rows); ++y) {
        for (int64_t x = left; x < std::min(left + side, grid.columns); ++x) {
          const int64_t token = y * grid.columns + x;
          inverse[static_cast<size_t>(token)] = static_cast<int64_t>(order.size());
          order.push_back(token);
        }
      }
      starts.push_back(static_cast<int32_t>(order.size()) * patches);
    }
  }
  return {at::tensor(order, at::kLong), at::tensor(inverse, at::kLong),
          at::tensor(starts, at::kInt)};
}

}  // namespace aerie
