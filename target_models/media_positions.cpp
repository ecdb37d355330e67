#include "target_models/media_positions.h"

namespace aerie {
namespace {

/// The rows of positions [X,N] as they are written.
class Rows {
 public:
  explicit Rows(at::Tensor& positions)
      : rows_(positions.size(1)), data_(positions.mutable_data_ptr<int64_t>()) {}
  int64_t& place(int64_t axis, int64_t row) { return data_[axis * rows_ + row]; }

 private:
  int64_t rows_;
  int64_t* data_;
};

/// Time, height and width of one document's rows [begin, end).
class Counter {
 public:
  Counter(Rows& rows, int64_t begin) : rows_(rows), row_(begin) {}

  void text_until(int64_t end) {
    for (; row_ < end; ++row_, ++next_) {
      for (int64_t axis = 0; axis < 3; ++axis) rows_.place(axis, row_) = next_;
    }
  }
  void image(const MediaSpan& span) {
    const auto [times, height, width] = span.grid;
    for (int64_t i = 0; i < span.count; ++i, ++row_) {
      rows_.place(0, row_) = next_ + i / (height * width);
      rows_.place(1, row_) = next_ + i / width % height;
      rows_.place(2, row_) = next_ + i % width;
    }
    next_ += std::max({times, height, width});
  }

 private:
  Rows& rows_;
  int64_t row_, next_ = 0;
};

/// Token, column, row and image of the same.
class Labels {
 public:
  Labels(Rows& rows, int64_t begin) : rows_(rows), begin_(begin), row_(begin) {}

  void text_until(int64_t end) {
    for (; row_ < end; ++row_) {
      for (int64_t axis = 0; axis < 4; ++axis) rows_.place(axis, row_) = row_ - begin_;
    }
  }
  void image(const MediaSpan& span) {
    const int64_t width = span.grid[2], end = row_ + span.count;
    text_until(std::min(end, row_ + span.edge));
    const int64_t places = span.tokens() - 2 * span.edge;
    for (int64_t i = 0; i < places && row_ < end; ++i, ++row_) {
      rows_.place(0, row_) = row_ - begin_;
      rows_.place(1, row_) = i % width;
      rows_.place(2, row_) = i / width;
      rows_.place(3, row_) = images_;
    }
    text_until(end);
    ++images_;
  }

 private:
  Rows& rows_;
  int64_t begin_, row_, images_ = 0;
};

template <typename Writer>
at::Tensor write_positions(const PackedTokens& documents, int64_t axes) {
  at::Tensor positions = at::empty({axes, documents.tokens.numel()}, at::kLong);
  Rows rows(positions);
  const int32_t* start = documents.q_start.const_data_ptr<int32_t>();
  auto span = documents.media.begin();
  for (int64_t s = 0; s + 1 < documents.q_start.numel(); ++s) {
    Writer writer(rows, start[s]);
    for (; span != documents.media.end() && span->begin < start[s + 1]; ++span) {
      writer.text_until(span->begin);
      writer.image(*span);
    }
    writer.text_until(start[s + 1]);
  }
  return positions;
}

}  // namespace

at::Tensor multi_axis_positions(const PackedTokens& documents, const RopeConfig& rope) {
  if (documents.media.empty() || rope.axes() == 1) return documents.positions;
  return rope.per_dimension ? write_positions<Labels>(documents, 4)
                            : write_positions<Counter>(documents, 3);
}

}  // namespace aerie
