// Drafts that need no training: a random one, and one whose every guess is known beforehand.
#pragma once
#include <memory>

#include "decoding/eagle3_drafter.h"
#include "decoding/speculative.h"
#include "draft_models/draft.h"
#include "draft_models/start.h"
#include "target_models/model.h"

namespace aerie::testing {

struct TestDraft {
  DraftConfig config;
  DraftParams params;
  VocabMap vocab;

  Eagle3Draft make(const TargetModel& target) const {
    return Eagle3Draft(config, params, target.embed_weight(), target.dtype());
  }
  std::unique_ptr<Decoder> decoder(const TargetModel& target, const Speculation& rule) const {
    return std::make_unique<SpeculativeDecoder>(
        std::make_unique<Eagle3Drafter>(make(target), vocab, target.dtype(), target.device()),
        rule);
  }
  std::unique_ptr<Decoder> decoder(const TargetModel& target, int64_t draft_tokens) const {
    return decoder(target, Speculation{draft_tokens});
  }
};

/// A vocabulary map of every `stride`-th target id.
inline VocabMap strided_vocab(int64_t vocab, int64_t stride) {
  VocabMap map;
  map.draft_to_target = at::arange(0, vocab, stride, at::kLong);
  map.target_to_draft = at::full({vocab}, -1, at::kLong);
  map.target_to_draft.index_put_({map.draft_to_target},
                                 at::arange(map.draft_to_target.numel(), at::kLong));
  return map;
}

inline TestDraft random_draft(const TargetModel& target, std::vector<int64_t> layers,
                              int64_t stride, uint64_t seed) {
  TestDraft draft;
  draft.vocab = strided_vocab(target.config().vocab, stride);
  draft.config = draft_config_for(target.config(), draft.vocab.draft_to_target.numel(), layers);
  draft.params = init_draft(draft.config, start_from_head(target, draft.vocab), seed);
  return draft;
}

/// fc passes the first captured layer through, attention and MLP add nothing, the head compares
/// with the normalised embeddings: every guess repeats the token that the state was taken at.
inline TestDraft copier_draft(const TargetModel& target, std::vector<int64_t> layers,
                              int64_t stride) {
  TestDraft draft = random_draft(target, layers, stride, 1);
  const Tensor rows =
      target.embed_weight().index_select(0, draft.vocab.draft_to_target).to(at::kCPU, at::kFloat);
  const int64_t width = target.config().hidden;
  Tensor& fc = draft.params.at("fc.weight");
  fc.zero_();
  fc.narrow(1, 0, width).copy_(at::eye(width));
  draft.params.at("midlayer.self_attn.o_proj.weight").zero_();
  draft.params.at("midlayer.mlp.down_proj.weight").zero_();
  draft.params.at("lm_head.weight").copy_(rows / rows.norm(2, 1, true));
  return draft;
}

}  // namespace aerie::testing
