// Positions of documents with images for multi-axis RoPE.
#pragma once
#include "data/packer.h"
#include "kernels/ragged.h"
#include "target_models/config.h"

namespace aerie {

/// [N], as packed, where `rope` has one axis or there is no media. Else text counts on all axes
/// alike, and images
/// - [3,N] i64, time, height, width: begin where the text before them ended, their tokens count
/// rows
///   and columns from there, and the text behind goes on after the longest side (Qwen2-VL, arXiv
///   2409.12191, section 2.1; for a still image Qwen3-VL's are the same);
/// - [4,N] i64, token, column, row, image (`rope.per_dimension`): on the first axis every token
///   counts; a grid's tokens have their column, row and the image's number, from 0, on the others,
///   and all other tokens their own index (transformers' HunYuanVLModel.get_rope_index).
at::Tensor multi_axis_positions(const PackedTokens& documents, const RopeConfig& rope);

}  // namespace aerie
