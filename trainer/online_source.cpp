#include "trainer/online_source.h"

#include <ATen/core/grad_mode.h>

namespace aerie {

namespace {

/// [N,C]
Tensor merged_embeds(const TargetModel& target, const ForwardInput& input) {
  Tensor merged = ops::embedding(input.tokens, target.embed_weight());
  if (!input.embeds.defined()) return merged;
  return merged.index_copy_(0, input.embed_rows, input.embeds.to(merged.scalar_type()));
}

}  // namespace

TrainBatch run_target(const TargetModel& target, const std::vector<int64_t>& capture_layers,
                      const PackedTokens& packed, bool with_embeds) {
  const at::NoGradGuard no_grad;
  const EncodedSample encoded = target.encode(packed);
  ForwardInput input;
  input.tokens = packed.tokens.to(target.device());
  input.positions = encoded.positions.to(target.device());
  if (encoded.embeds.defined()) {
    input.embeds = encoded.embeds;
    input.embed_rows = encoded.embed_rows.to(target.device());
    input.deepstack = encoded.deepstack;
  }
  input.layout.q_start = packed.q_start.to(target.device());
  input.layout.max_q = input.layout.max_kv = packed.max_len;
  input.capture_layers = capture_layers;
  ForwardOutput output = target.forward(input);
  // A draft beside such a target counts tokens, on the first of its axes (draft_config_for).
  const bool first_axis = target.config().rope.per_dimension && encoded.positions.dim() == 2;
  TrainBatch batch{packed.tokens,
                   first_axis ? encoded.positions.select(0, 0) : encoded.positions,
                   packed.q_start,
                   packed.loss_mask,
                   output.captured,
                   output.hidden,
                   packed.max_len,
                   {},
                   0};
  if (with_embeds) batch.embeds = merged_embeds(target, input);
  return batch;
}

OnlineSource::OnlineSource(const TargetModel& target, std::vector<int64_t> capture_layers,
                           const TokenShards& shards, const PackOptions& packing, int64_t epochs,
                           bool with_embeds)
    : target_(target),
      capture_layers_(std::move(capture_layers)),
      packs_(shards, packing, epochs),
      with_embeds_(with_embeds) {}

std::optional<TrainBatch> OnlineSource::next() {
  const std::optional<Pack> pack = packs_.next();
  if (!pack) return std::nullopt;
  TrainBatch batch = run_target(target_, capture_layers_, packs_.gather(*pack), with_embeds_);
  batch.documents = packs_.names(*pack);
  batch.domains = packs_.domains(*pack);
  batch.epoch = pack->epoch;
  return batch;
}

}  // namespace aerie
