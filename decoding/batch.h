// Chunks of many sequences -> the tensors of one target forward.
#pragma once
#include <span>
#include <vector>

#include "decoding/sequence.h"
#include "target_models/model.h"

namespace aerie {

/// Rows that one sequence feeds in one forward.
struct Chunk {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;   ///< among the sequence's tokens; what RoPE sees follows from it
  std::vector<int32_t> parents;     ///< tree: row before each row, -1: the cache. []: one chain
  std::vector<int32_t> logit_rows;  ///< rows whose logits are read, ascending
  bool prompt = false;              ///< tokens that are known already: all of its rows stay
  int64_t masks = 0;  ///< last rows that stand for unknown tokens: their logits are of the token at
                      ///< their own position, not of the one after it

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

/// Rows [from, from + count) of what the sequence knows. Logits only if the last known token is
/// among them.
Chunk known_chunk(const Sequence& sequence, int64_t from, int64_t count);

struct Batch {
  ForwardInput input;                ///< `kv` and `capture_layers` are the engine's to set
  std::vector<int64_t> row_start;    ///< [S+1]
  std::vector<int64_t> logit_start;  ///< [S+1]
};

/// Sequences need pages for all rows: row r of a chunk goes to the slot of token committed + r.
/// `axes`: of the target's RoPE.
Batch build_batch(std::span<Sequence* const> sequences, std::span<const Chunk> chunks,
                  at::Device device, int64_t axes = 1);

/// Page ids [S,P] i32, padded with 0, wide enough for the longest of `kv_lens`.
Tensor page_matrix(std::span<Sequence* const> sequences, std::span<const int32_t> kv_lens);

/// The same of lists of page ids, padded with 0 to the longest.
Tensor page_lists(std::span<const std::vector<int32_t>> lists);

/// Copies a vector into a CPU tensor of type `dtype`.
template <typename T>
Tensor to_tensor(const std::vector<T>& values, at::ScalarType dtype) {
  Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions().dtype(dtype));
  if (dtype == at::kInt) {
    std::copy(values.begin(), values.end(), out.mutable_data_ptr<int32_t>());
  } else {
    std::copy(values.begin(), values.end(), out.mutable_data_ptr<int64_t>());
  }
  return out;
}

}  // namespace aerie
