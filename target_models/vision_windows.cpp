#include "target_models/vision_windows.h"

#include <algorithm>
#include <cmath>

namespace aerie {

ops::RopeTable patch_rope_table(const PatchGrid& grid, int64_t head_dim, double theta) {
  const int64_t half = head_dim / 2, m = grid.merge;
  const Tensor exponent = at::arange(0, half, 2, at::kLong).to(at::kFloat) / half;
  const Tensor frequencies = at::pow(theta, exponent).reciprocal();  // [D/4]
  // [rows,m,columns,m] -> token by token
  const auto by_token = [&](const Tensor& plane) {
    return plane.view({grid.rows, m, grid.columns, m}).transpose(1, 2).reshape({-1, 1});
  };
  const Tensor y = at::arange(grid.rows * m, at::kFloat).unsqueeze(1);
  const Tensor x = at::arange(grid.columns * m, at::kFloat).unsqueeze(0);
  const std::vector<int64_t> size{grid.rows * m, grid.columns * m};
  const Tensor angles = at::cat({by_token(y.expand(size).contiguous()) * frequencies,
                                 by_token(x.expand(size).contiguous()) * frequencies},
                                1);
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
