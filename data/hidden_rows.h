// Rows of hidden states in memory, and as the columns of a shard.
#pragma once
#include <torch/types.h>

#include <vector>

#include "data/hidden_format.h"

namespace aerie {

/// n rows of one document or of several, side by side, on the CPU.
struct HiddenRows {
  at::Tensor tokens;       ///< [n] i32
  at::Tensor loss_mask;    ///< [n] u8: 1 where the assistant wrote the token
  at::Tensor positions;    ///< [n] i32, equal on all axes, or [n,axes]
  at::Tensor aux;          ///< [n,A*C] in the format's dtype
  at::Tensor last;         ///< [n,C]
  at::Tensor embeds = {};  ///< [n,C] what the target read; undefined where the store has none

  int64_t size() const { return tokens.numel(); }
  /// Rows [begin, begin + count), sharing memory.
  HiddenRows slice(int64_t begin, int64_t count) const;
};

/// Contiguous tensors in the order of hidden_columns(format). Throws Error where a shape or dtype
/// is not the format's.
std::vector<at::Tensor> to_columns(const HiddenRows& rows, const HiddenFormat& format);
/// The reverse; int8 rows are scaled back into the format's dtype.
HiddenRows from_columns(const std::vector<at::Tensor>& columns, const HiddenFormat& format);
/// Columns of n rows with nothing in them, to read into.
std::vector<at::Tensor> empty_columns(int64_t rows, const HiddenFormat& format);

}  // namespace aerie
