// Positions of documents with images for multi-axis RoPE.
#pragma once
#include "data/packer.h"
#include "kernels/ragged.h"

namespace aerie {

/// [3,N] i64: time, height, width. Text counts on all axes alike; an image begins where the text
/// before it ended and its tokens count rows and columns from there; the text behind goes on after
/// the longest side (Qwen2-VL, arXiv 2409.12191, section 2.1). [N], as packed, without media.
at::Tensor multi_axis_positions(const PackedTokens& documents);

}  // namespace aerie
