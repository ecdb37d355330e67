#include "trainer/online_source.h"

#include <ATen/core/grad_mode.h>

#include <limits>

namespace aerie {

OnlineSource::OnlineSource(const TargetModel& target, std::vector<int64_t> capture_layers,
                           const TokenShards& shards, const PackOptions& packing, int64_t epochs)
    : target_(target),
      capture_layers_(std::move(capture_layers)),
      shards_(shards),
      packer_(shards, packing),
      ranks_(packing.ranks),
      epochs_(epochs) {}

std::optional<TrainBatch> OnlineSource::next() {
  const std::string here = packer_.cursor();
  const Pack pack = packer_.next();
  if (epochs_ > 0 && pack.epoch >= epochs_) {
    packer_.seek(here);
    return std::nullopt;
  }
  PackedTokens packed = packer_.gather(pack);
  const at::NoGradGuard no_grad;
  ForwardInput input;
  input.tokens = packed.tokens.to(target_.device());
  input.positions = packed.positions.to(target_.device());
  input.layout.q_start = packed.q_start.to(target_.device());
  input.layout.max_q = input.layout.max_kv = packed.max_len;
  input.capture_layers = capture_layers_;
  ForwardOutput output = target_.forward(input);

  TrainBatch batch{packed.tokens,   packed.positions, packed.q_start, packed.loss_mask,
                   output.captured, output.hidden,    packed.max_len, {},
                   pack.epoch};
  for (const int64_t document : pack.documents) {
    batch.documents.emplace_back(shards_[document].name);
  }
  return batch;
}

int64_t OnlineSource::total_batches() const {
  if (epochs_ == 0) return std::numeric_limits<int64_t>::max();
  int64_t total = 0;
  for (int64_t epoch = 0; epoch < epochs_; ++epoch) total += packer_.packs_in_epoch(epoch);
  return total / ranks_;
}

}  // namespace aerie
