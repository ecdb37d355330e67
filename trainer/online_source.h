// Hidden states made on the spot: packs of tokens go through the frozen target.
#pragma once
#include "data/packer.h"
#include "target_models/model.h"
#include "trainer/hidden_states.h"

namespace aerie {

class OnlineSource : public HiddenStateSource {
 public:
  /// References outlive the source. `epochs` 0: endless. `capture_layers` are 0-based.
  OnlineSource(const TargetModel& target, std::vector<int64_t> capture_layers,
               const TokenShards& shards, const PackOptions& packing, int64_t epochs);

  std::optional<TrainBatch> next() override;
  std::string cursor() const override { return packer_.cursor(); }
  void seek(const std::string& cursor) override { packer_.seek(cursor); }
  int64_t total_batches() const override;

 private:
  const TargetModel& target_;
  std::vector<int64_t> capture_layers_;
  const TokenShards& shards_;
  Packer packer_;
  int64_t ranks_, epochs_;
};

}  // namespace aerie
