// Ragged batches: documents side by side up to a token budget, nothing padded.
#pragma once
#include <torch/types.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/token_shards.h"

namespace aerie {

struct PackOptions {
  int64_t budget = 4096;  // tokens a pack holds at most
  int64_t window = 2048;  // documents that are packed together
  uint64_t seed = 0;
  bool shuffle = true;      // false: documents in their order (evaluation)
  int rank = 0, ranks = 1;  // this process takes every ranks-th pack of a round, from its rank on
  int64_t round = 0;        // packs that the ranks take before the cursor moves on; 0: one each
};

struct Pack {
  std::vector<int64_t> documents;  // indices into the shards
  int64_t epoch = 0;
};

/// A pack as tensors; what a forward needs.
struct PackedTokens {
  at::Tensor tokens;             // [N] i64
  at::Tensor positions;          // [N] i64, from 0 in every document
  at::Tensor q_start;            // [S+1] i32
  at::Tensor loss_mask;          // [N] bool: written by the assistant
  int64_t max_len = 0;           // tokens of the longest document
  std::vector<MediaSpan> media;  // of all documents; `begin` counts the pack's tokens
};

/// One document alone.
PackedTokens pack_document(std::span<const int32_t> ids, std::vector<MediaSpan> media);

/// An endless, reproducible sequence of packs. Each epoch shuffles the documents and cuts them into
/// windows; inside a window the longest documents are placed first, each into the first pack with
/// room (first fit decreasing), and the packs are shuffled. A document larger than the budget is
/// cut at a turn (truncated_size). Keeps a reference to the shards.
class Packer {
 public:
  Packer(const TokenShards& shards, PackOptions options);

  Pack next();
  /// The pack that next() will give.
  Pack peek();
  /// Packs of one epoch, all ranks together. Epochs differ a little; this is epoch `epoch`'s.
  int64_t packs_in_epoch(int64_t epoch = 0) const;
  PackedTokens gather(const Pack& pack) const;
  /// Documents that are larger than the budget.
  int64_t truncated() const { return truncated_; }

  /// The place of the next round (the same for all ranks, and good for any number of them), as a
  /// short string: "epoch:pack:key".
  std::string cursor() const;
  /// Continues there. Throws Error if the string is not of this data and these options.
  void seek(std::string_view cursor);

 private:
  struct Place {
    int64_t epoch = 0, pack = 0;
  };
  const std::vector<Pack>& epoch(int64_t number);
  std::vector<Pack> make_epoch(int64_t number) const;
  void advance(Place& place, int64_t packs);
  std::string key() const;

  const TokenShards& shards_;
  PackOptions options_;
  std::map<int64_t, std::vector<Pack>> epochs_;  // at most the current one and the next
  Place next_;                                   // where the round begins
  int64_t taken_ = 0;                            // own packs of the round
  int64_t truncated_ = 0;
};

}  // namespace aerie
