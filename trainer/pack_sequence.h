// The order in which documents train, as packs: the same whatever the hidden states come from.
#pragma once
#include <optional>

#include "data/packer.h"

namespace aerie {

/// The packs of so many epochs.
class PackSequence {
 public:
  /// `shards` outlives the sequence. `epochs` 0: endless.
  PackSequence(const TokenShards& shards, const PackOptions& packing, int64_t epochs);

  /// The next pack of this rank; nothing once every epoch has been read.
  std::optional<Pack> next();
  PackedTokens gather(const Pack& pack) const { return packer_.gather(pack); }
  std::vector<std::string> names(const Pack& pack) const;
  /// Of each document; empty where the data name none.
  std::vector<std::string> domains(const Pack& pack) const;
  std::string cursor() const { return packer_.cursor(); }
  void seek(const std::string& cursor) { packer_.seek(cursor); }
  /// Packs from the start to the end of all epochs, of all ranks together.
  int64_t total() const;

 private:
  const TokenShards& shards_;
  Packer packer_;
  int64_t epochs_;
};

}  // namespace aerie
