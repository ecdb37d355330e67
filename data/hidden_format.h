// What the rows of a hidden-state store are made of, and how many bytes they take.
#pragma once
#include <torch/types.h>

#include <string>
#include <vector>

namespace aerie {

/// C hidden, A captured layers. Everything here is fixed for a whole store.
struct HiddenFormat {
  int64_t hidden = 0, layers = 0;
  int64_t axes = 1;                      ///< of the positions: more for multi-axis RoPE
  at::ScalarType dtype = at::kBFloat16;  ///< of the states: bfloat16 or float
  bool int8 = false;                     ///< stored as int8, with a scale a row and layer
  std::string compression = "none";      ///< none | deflate | zstd
  bool embeds = false;                   ///< the target's input embeddings are stored too

  /// Elements of a row of auxiliary states.
  int64_t aux_width() const { return layers * hidden; }
  int64_t element_bytes() const { return int8 ? 1 : static_cast<int64_t>(c10::elementSize(dtype)); }
  /// Rows of one chunk, the same in every dataset: about 1 MiB of auxiliary states.
  int64_t chunk_rows() const;
  /// Bytes of a row over all datasets, before compression.
  int64_t row_bytes() const;
};

/// One dataset of a shard that grows by rows.
struct HiddenColumn {
  std::string name;
  at::ScalarType dtype;
  int64_t width;  ///< elements a row; 0: the dataset has one dimension

  int64_t row_bytes() const {
    return std::max<int64_t>(1, width) * static_cast<int64_t>(c10::elementSize(dtype));
  }
};

/// The datasets of a shard: tokens [N] i32, loss_mask [N] u8, positions [N] i32 ([N,axes] where
/// there are several), aux [N,A*C],
/// last [N,C], for int8 aux_scale [N,A] and last_scale [N] f32, and at the end, never rounded,
/// embeds [N,C] where they are kept.
std::vector<HiddenColumn> hidden_columns(const HiddenFormat& format);
/// Where those stand in hidden_columns.
enum HiddenColumnIndex : size_t {
  kTokens,
  kLossMask,
  kPositions,
  kAux,
  kLast,
  kAuxScale,
  kLastScale
};

}  // namespace aerie
