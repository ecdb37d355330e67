#include "data/hidden_rows.h"

#include <cmath>

#include "common/error.h"

namespace aerie {
namespace {

constexpr float kLargestInt8 = 127;

/// x [n,W] in groups of `width` -> int8 [n,W] and the scale of every group, f32 [n,W/width]: the
/// largest absolute value becomes 127.
std::pair<at::Tensor, at::Tensor> quantize(const at::Tensor& x, int64_t width) {
  const at::Tensor groups = x.to(at::kFloat).view({-1, width});
  const at::Tensor scale = groups.abs().amax(1, true) / kLargestInt8;
  const at::Tensor divisor = at::where(scale == 0, at::ones_like(scale), scale);
  return {(groups / divisor).round_().to(at::kChar).view(x.sizes()),
          scale.view({x.size(0), x.size(1) / width})};
}

at::Tensor dequantize(const at::Tensor& x, const at::Tensor& scale, at::ScalarType dtype) {
  const at::Tensor groups = x.to(at::kFloat).view({scale.numel(), -1});
  return (groups * scale.reshape({-1, 1})).to(dtype).view(x.sizes());
}

void check_states(const char* name, const at::Tensor& x, int64_t rows, int64_t width,
                  at::ScalarType dtype) {
  AERIE_CHECK(x.dim() == 2 && x.size(0) == rows && x.size(1) == width && x.scalar_type() == dtype,
              "{} of {} rows are {} of shape {}; the store holds {} of [rows, {}]", name, rows,
              c10::toString(x.scalar_type()), fmt::format("{}", fmt::join(x.sizes(), "x")),
              c10::toString(dtype), width);
}

}  // namespace

HiddenRows HiddenRows::slice(int64_t begin, int64_t count) const {
  return {tokens.narrow(0, begin, count),
          loss_mask.narrow(0, begin, count),
          positions.narrow(0, begin, count),
          aux.narrow(0, begin, count),
          last.narrow(0, begin, count),
          embeds.defined() ? embeds.narrow(0, begin, count) : embeds};
}

std::vector<at::Tensor> to_columns(const HiddenRows& rows, const HiddenFormat& format) {
  check_states("auxiliary states", rows.aux, rows.size(), format.aux_width(), format.dtype);
  check_states("last hidden states", rows.last, rows.size(), format.hidden, format.dtype);
  at::Tensor positions = rows.positions;
  if (positions.dim() == 1 && format.axes > 1)
    positions = positions.unsqueeze(1).expand({-1, format.axes});
  if (positions.dim() == 2 && format.axes == 1) positions = positions.select(1, 0);
  std::vector<at::Tensor> columns{rows.tokens, rows.loss_mask, positions, rows.aux, rows.last};
  if (format.int8) {
    auto [aux, aux_scale] = quantize(rows.aux, format.hidden);
    auto [last, last_scale] = quantize(rows.last, format.hidden);
    columns = {rows.tokens, rows.loss_mask, positions, aux, last, aux_scale, last_scale};
  }
  if (format.embeds) {
    AERIE_CHECK(rows.embeds.defined(), "the store keeps input embeddings, and the rows have none");
    check_states("input embeddings", rows.embeds, rows.size(), format.hidden, format.dtype);
    columns.push_back(rows.embeds);
  }
  for (at::Tensor& column : columns) column = column.contiguous();
  return columns;
}

HiddenRows from_columns(const std::vector<at::Tensor>& columns, const HiddenFormat& format) {
  HiddenRows rows{columns[kTokens], columns[kLossMask], columns[kPositions], columns[kAux],
                  columns[kLast]};
  if (format.int8) {
    rows.aux = dequantize(rows.aux, columns[kAuxScale], format.dtype);
    rows.last = dequantize(rows.last, columns[kLastScale], format.dtype);
  }
  if (format.embeds) rows.embeds = columns.back();
  return rows;
}

std::vector<at::Tensor> empty_columns(int64_t rows, const HiddenFormat& format) {
  std::vector<at::Tensor> columns;
  for (const HiddenColumn& column : hidden_columns(format)) {
    columns.push_back(column.width == 0 ? at::empty({rows}, column.dtype)
                                        : at::empty({rows, column.width}, column.dtype));
  }
  return columns;
}

}  // namespace aerie
