#include "trainer/keep_rows.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

namespace aerie {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A tensor of zeros of `sizes` with `values` [R,...] at `rows`.
at::Tensor place_rows(const at::Tensor& values, const at::Tensor& rows, at::IntArrayRef sizes) {
  at::Tensor result = at::zeros(sizes, values.options());
  if (!values.is_cpu()) return result.index_copy_(0, rows, values);
  const at::Tensor source = values.contiguous();
  const size_t bytes = source.nbytes() / static_cast<size_t>(std::max<int64_t>(1, source.size(0)));
  const char* from = static_cast<const char*>(source.const_data_ptr());
  char* to = static_cast<char*>(result.mutable_data_ptr());
  const int64_t* row = rows.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows.numel(); ++i, from += bytes) {
    std::memcpy(to + static_cast<size_t>(row[i]) * bytes, from, bytes);
  }
  return result;
}

struct KeepRows : torch::autograd::Function<KeepRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& rows) {
    context->save_for_backward({rows});
    context->saved_data["sizes"] = x.sizes().vec();
    return x.index_select(0, rows);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grad) {
    return {place_rows(grad[0], context->get_saved_variables()[0],
                       context->saved_data["sizes"].toIntVector()),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor keep_rows(const at::Tensor& x, const at::Tensor& rows) {
  return KeepRows::apply(x, rows);
}

}  // namespace aerie
