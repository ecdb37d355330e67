#include "target_models/media_positions.h"

namespace aerie {
namespace {

/// Writes the positions of one document's rows [begin, end).
class Counter {
 public:
  Counter(at::Tensor& positions, int64_t begin)
      : rows_(positions.size(1)), data_(positions.mutable_data_ptr<int64_t>()), row_(begin) {}

  void text_until(int64_t end) {
    for (; row_ < end; ++row_, ++next_) {
      for (int64_t axis = 0; axis < 3; ++axis) data_[axis * rows_ + row_] = next_;
    }
  }
  void image(const MediaSpan& span) {
    const auto [times, height, width] = span.grid;
    for (int64_t i = 0; i < span.count; ++i, ++row_) {
      data_[row_] = next_ + i / (height * width);
      data_[rows_ + row_] = next_ + i / width % height;
      data_[2 * rows_ + row_] = next_ + i % width;
    }
    next_ += std::max({times, height, width});
  }

 private:
  int64_t rows_;
  int64_t* data_;
  int64_t row_, next_ = 0;
};

}  // namespace

at::Tensor multi_axis_positions(const PackedTokens& documents) {
  if (documents.media.empty()) return documents.positions;
  at::Tensor positions = at::empty({3, documents.tokens.numel()}, at::kLong);
  const int32_t* start = documents.q_start.const_data_ptr<int32_t>();
  auto span = documents.media.begin();
  for (int64_t s = 0; s + 1 < documents.q_start.numel(); ++s) {
    Counter counter(positions, start[s]);
    for (; span != documents.media.end() && span->begin < start[s + 1]; ++span) {
      counter.text_until(span->begin);
      counter.image(*span);
    }
    counter.text_until(start[s + 1]);
  }
  return positions;
}

}  // namespace aerie
