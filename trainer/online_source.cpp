#include "trainer/online_source.h"

#include <ATen/core/grad_mode.h>

namespace aerie {

TrainBatch run_target(const TargetModel& target, const std::vector<int64_t>& capture_layers,
                      const PackedTokens& packed) {
  const at::NoGradGuard no_grad;
  const EncodedSample encoded = target.encode(packed);
  ForwardInput input;
  input.tokens = packed.tokens.to(target.device());
  input.positions = encoded.positions.to(target.device());
  if (encoded.embeds.defined()) {
    input.embeds = encoded.embeds;
    input.embed_rows = encoded.embed_rows.to(target.device());
  }
  input.layout.q_start = packed.q_start.to(target.device());
  input.layout.max_q = input.layout.max_kv = packed.max_len;
  input.capture_layers = capture_layers;
  ForwardOutput output = target.forward(input);
  return {packed.tokens,
          encoded.positions,
          packed.q_start,
          packed.loss_mask,
          output.captured,
          output.hidden,
          packed.max_len,
          {},
          0};
}

OnlineSource::OnlineSource(const TargetModel& target, std::vector<int64_t> capture_layers,
                           const TokenShards& shards, const PackOptions& packing, int64_t epochs)
    : target_(target),
      capture_layers_(std::move(capture_layers)),
      packs_(shards, packing, epochs) {}

std::optional<TrainBatch> OnlineSource::next() {
  const std::optional<Pack> pack = packs_.next();
  if (!pack) return std::nullopt;
  TrainBatch batch = run_target(target_, capture_layers_, packs_.gather(*pack));
  batch.documents = packs_.names(*pack);
  batch.domains = packs_.domains(*pack);
  batch.epoch = pack->epoch;
  return batch;
}

}  // namespace aerie
