// Hidden states made on the spot: packs of tokens go through the frozen target.
#pragma once
#include "target_models/model.h"
#include "trainer/hidden_states.h"
#include "trainer/pack_sequence.h"

namespace aerie {

/// A batch of `packed` documents without names and epoch. `capture_layers` are 0-based;
/// `with_embeds`: keeps what the target read.
TrainBatch run_target(const TargetModel& target, const std::vector<int64_t>& capture_layers,
                      const PackedTokens& packed, bool with_embeds = false);

class OnlineSource : public HiddenStateSource {
 public:
  /// References outlive the source. `epochs` 0: endless.
  OnlineSource(const TargetModel& target, std::vector<int64_t> capture_layers,
               const TokenShards& shards, const PackOptions& packing, int64_t epochs,
               bool with_embeds = false);

  std::optional<TrainBatch> next() override;
  std::string cursor() const override { return packs_.cursor(); }
  void seek(const std::string& cursor) override { packs_.seek(cursor); }
  int64_t total_batches() const override { return packs_.total(); }

 private:
  const TargetModel& target_;
  std::vector<int64_t> capture_layers_;
  PackSequence packs_;
  bool with_embeds_;
};

}  // namespace aerie
