#include "trainer/pack_sequence.h"

#include <limits>

namespace aerie {

PackSequence::PackSequence(const TokenShards& shards, const PackOptions& packing, int64_t epochs)
    : shards_(shards), packer_(shards, packing), epochs_(epochs) {}

std::optional<Pack> PackSequence::next() {
  if (epochs_ != 0 && packer_.peek().epoch >= epochs_) return std::nullopt;
  return packer_.next();
}

std::vector<std::string> PackSequence::names(const Pack& pack) const {
  std::vector<std::string> names;
  for (const int64_t document : pack.documents) names.emplace_back(shards_[document].name);
  return names;
}

std::vector<std::string> PackSequence::domains(const Pack& pack) const {
  std::vector<std::string> domains;
  if (!shards_.has_domains()) return domains;
  for (const int64_t document : pack.documents) domains.emplace_back(shards_[document].domain);
  return domains;
}

int64_t PackSequence::total() const {
  if (epochs_ == 0) return std::numeric_limits<int64_t>::max();
  int64_t total = 0;
  for (int64_t epoch = 0; epoch < epochs_; ++epoch) total += packer_.packs_in_epoch(epoch);
  return total;
}

}  // namespace aerie
