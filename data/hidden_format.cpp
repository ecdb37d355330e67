#include "data/hidden_format.h"

namespace aerie {
namespace {

constexpr int64_t kChunkBytes = int64_t{1} << 20;
}  // namespace

int64_t HiddenFormat::chunk_rows() const {
  return std::max<int64_t>(1, kChunkBytes / (aux_width() * element_bytes()));
}

int64_t HiddenFormat::row_bytes() const {
  int64_t bytes = 0;
  for (const HiddenColumn& column : hidden_columns(*this)) bytes += column.row_bytes();
  return bytes;
}

std::vector<HiddenColumn> hidden_columns(const HiddenFormat& format) {
  const at::ScalarType states = format.int8 ? at::kChar : format.dtype;
  std::vector<HiddenColumn> columns{{"tokens", at::kInt, 0},
                                    {"loss_mask", at::kByte, 0},
                                    {"positions", at::kInt, format.axes > 1 ? format.axes : 0},
                                    {"aux", states, format.aux_width()},
                                    {"last", states, format.hidden}};
  if (format.int8) {
    columns.push_back({"aux_scale", at::kFloat, format.layers});
    columns.push_back({"last_scale", at::kFloat, 0});
  }
  if (format.embeds) columns.push_back({"embeds", format.dtype, format.hidden});
  return columns;
}

}  // namespace aerie
