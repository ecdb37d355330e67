#include "common/error.h"
#include "common/threads.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/elementwise_loops.h"

namespace aerie::cpu {

template <>
const RowOps<bf16>& row_ops<bf16>(Isa isa) {
  if (isa >= Isa::kAvx512) return kRowsAvx512Bf16;
  return isa == Isa::kAvx2 ? kRowsAvx2Bf16 : kRowsPortableBf16;
}

template <>
const RowOps<float>& row_ops<float>(Isa isa) {
  if (isa >= Isa::kAvx512) return kRowsAvx512F32;
  return isa == Isa::kAvx2 ? kRowsAvx2F32 : kRowsPortableF32;
}

}  // namespace aerie::cpu

namespace aerie::ops::cpu {
namespace {

using aerie::cpu::bf16;
using aerie::cpu::row_ops;

/// Calls body with a null pointer of the element type that stands for `type`.
template <typename Body>
void with_type(at::ScalarType type, const Body& body) {
  if (type == at::kBFloat16) {
    body(static_cast<bf16*>(nullptr));
  } else {
    body(static_cast<float*>(nullptr));
  }
}

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <typename T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

/// Rows of a few thousand elements at a time; a decode step stays in its thread.
template <typename Body>
void for_rows(int64_t rows, int64_t columns, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(columns, 1));
  if (rows <= grain) {
    for (int64_t row = 0; row < rows; ++row) body(row);
    return;
  }
  parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

/// Where rows are as they must be: elements of a row beside each other.
Tensor with_dense_rows(const Tensor& x) {
  bool dense = true;
  int64_t expected = 1;
  for (int64_t dim = x.dim() - 1; dim >= 1; --dim) {
    dense &= x.size(dim) == 1 || x.stride(dim) == expected;
    expected *= x.size(dim);
  }
  return dense ? x : x.contiguous();
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor rows = x.contiguous(), scale = weight.to(at::kFloat).contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  const int64_t columns = x.size(-1);
  with_type(x.scalar_type(), [&]<typename T>(T*) {
    const auto op = row_ops<T>().rms_norm;
    for_rows(x.numel() / std::max<int64_t>(columns, 1), columns, [&](int64_t row) {
      op(mutable_data<T>(out) + row * columns, data<T>(rows) + row * columns, data<float>(scale),
         static_cast<float>(eps), columns);
    });
  });
  return out;
}

Tensor add_rms_norm_(Tensor& residual, const Tensor& x, const Tensor& weight, double eps) {
  const Tensor rows = x.contiguous(), scale = weight.to(at::kFloat).contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  const int64_t columns = x.size(1);
  with_type(x.scalar_type(), [&]<typename T>(T*) {
    const auto op = row_ops<T>().add_rms_norm;
    for_rows(x.size(0), columns, [&](int64_t row) {
      const int64_t at = row * columns;
      op(mutable_data<T>(out) + at, mutable_data<T>(residual) + at, data<T>(rows) + at,
         data<float>(scale), static_cast<float>(eps), columns);
    });
  });
  return out;
}

Tensor swiglu(const Tensor& gate_up) {
  const Tensor rows = with_dense_rows(gate_up);
  const int64_t columns = gate_up.size(1) / 2;
  Tensor out = at::empty({gate_up.size(0), columns}, gate_up.options());
  with_type(gate_up.scalar_type(), [&]<typename T>(T*) {
    const auto op = row_ops<T>().swiglu;
    for_rows(gate_up.size(0), 2 * columns, [&](int64_t row) {
      op(mutable_data<T>(out) + row * columns, data<T>(rows) + row * rows.stride(0), columns);
    });
  });
  return out;
}

Tensor rope(const Tensor& x, const Tensor& positions, const RopeTable& table) {
  const Tensor rows = with_dense_rows(x), where = positions.contiguous();
  const Tensor cos = table.cos.contiguous(), sin = table.sin.contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  const int64_t heads = x.size(1), head_dim = x.size(2), limit = cos.size(0);
  const int64_t* position = where.const_data_ptr<int64_t>();
  for (int64_t row = 0; row < x.size(0); ++row) {
    AERIE_CHECK(position[row] >= 0 && position[row] < limit,
                "rope: position {} of row {} is outside the table's {} positions; the model's "
                "maximum length is "
                "exceeded",
                position[row], row, limit);
  }
  with_type(x.scalar_type(), [&]<typename T>(T*) {
    const auto op = row_ops<T>().rope;
    for_rows(x.size(0), heads * head_dim, [&](int64_t row) {
      const int64_t angle = position[row] * (head_dim / 2);
      op(mutable_data<T>(out) + row * heads * head_dim, data<T>(rows) + row * rows.stride(0),
         data<float>(cos) + angle, data<float>(sin) + angle, heads, head_dim);
    });
  });
  return out;
}

}  // namespace aerie::ops::cpu
