// Geometry of images in vision towers. In the Qwen family patches stand token by token, and within
// a token row by row.
#pragma once
#include "kernels/ops.h"

namespace aerie {

/// An image of rows x columns tokens, each of merge x merge patches.
struct PatchGrid {
  int64_t rows = 0, columns = 0, merge = 0;
  int64_t tokens() const { return rows * columns; }
  int64_t patches() const { return tokens() * merge * merge; }
};

/// x [patches,...] of patches that stand row by row -> token by token.
Tensor token_order(const PatchGrid& grid, const Tensor& x);

/// Learned positions of a square of patches, table [side*side,C], resampled bilinearly to the
/// grid's patches: [patches,C] f32, row by row. `align_corners`: the outermost patches take the
/// outermost entries (Qwen3-VL); else entries and patches are areas of the same square
/// (HunyuanOCR).
Tensor resample_positions(const Tensor& table, const PatchGrid& grid, bool align_corners);

/// Rotation by row and column: the first half of a head's pairs turns with the patch's row, the
/// second with its column, each at the frequencies of half a head. Rows of the table are patches.
ops::RopeTable patch_rope_table(const PatchGrid& grid, int64_t head_dim);

/// Tokens ordered window by window (side x side tokens, smaller at the right and lower edge), and
/// where the windows begin.
struct WindowOrder {
  Tensor order;    ///< [tokens] i64: the token at each place
  Tensor inverse;  ///< [tokens] i64: the place of each token
  Tensor starts;   ///< [windows+1] i32, in patches
};
WindowOrder order_by_window(const PatchGrid& grid, int64_t side);

}  // namespace aerie
