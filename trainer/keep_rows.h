// A selection of rows whose gradient is a copy.
#pragma once
#include <torch/types.h>

namespace aerie {

/// x [N,...], rows [R] i64, each at most once -> x[rows] [R,...]. Differentiable: because no row is
/// taken twice, the gradient is written to its place, where index_select's would add row by row, at
/// several times the cost.
at::Tensor keep_rows(const at::Tensor& x, const at::Tensor& rows);

}  // namespace aerie
