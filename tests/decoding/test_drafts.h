// Drafts that need no training: a random one, and one whose every guess is known beforehand.
#pragma once
#include <memory>
#include <set>

#include "data/packer.h"
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
  draft.config =
      draft_config_for(target.config(), draft.vocab.draft_to_target.numel(), std::move(layers));
  draft.params = init_draft(draft.config, start_from_head(target, draft.vocab), seed);
  return draft;
}

/// fc passes one of the captured layers through, attention and MLP add nothing.
inline void pass_through(TestDraft& draft, int64_t captured) {
  const int64_t width = draft.config.hidden;
  Tensor& fc = draft.params.at("fc.weight");
  fc.zero_();
  fc.narrow(1, captured * width, width).copy_(at::eye(width));
  draft.params.at("midlayer.self_attn.o_proj.weight").zero_();
  draft.params.at("midlayer.mlp.down_proj.weight").zero_();
}

/// The first captured layer is compared with the normalised embeddings: every guess repeats the
/// token that the state was taken at.
inline TestDraft copier_draft(const TargetModel& target, std::vector<int64_t> layers,
                              int64_t stride) {
  TestDraft draft = random_draft(target, std::move(layers), stride, 1);
  const Tensor rows =
      target.embed_weight().index_select(0, draft.vocab.draft_to_target).to(at::kCPU, at::kFloat);
  pass_through(draft, 0);
  draft.params.at("lm_head.weight").copy_(rows / rows.norm(2, 1, true));
  return draft;
}

/// What a greedy target says behind a prompt.
struct KnownAnswer {
  std::vector<int32_t> prompt, output;
};

/// A draft that knows some answers by heart: where they are decoded again, the first guess of a
/// step nearly always holds, and those behind it repeat it. Its head is the ridge regression from
/// the states of the last captured layer to the token two places on.
inline TestDraft learnt_draft(const TargetModel& target, std::vector<int64_t> layers,
                              const std::vector<KnownAnswer>& answers) {
  std::vector<Tensor> states;
  std::vector<int64_t> next;
  for (const auto& [prompt, output] : answers) {
    if (output.size() < 2) continue;
    std::vector<int32_t> text = prompt;
    text.insert(text.end(), output.begin(), output.end());
    const PackedTokens packed = pack_document(text, {});
    ForwardInput input;
    input.tokens = packed.tokens;
    input.positions = packed.positions;
    input.layout.q_start = packed.q_start;
    input.layout.max_q = input.layout.max_kv = packed.max_len;
    input.capture_layers = {layers.back()};
    states.push_back(target.forward(input).captured.narrow(
        0, static_cast<int64_t>(prompt.size()) - 1, static_cast<int64_t>(output.size()) - 1));
    next.insert(next.end(), output.begin() + 1, output.end());
  }
  const std::set<int64_t> words(next.begin(), next.end());
  TestDraft draft;
  draft.vocab = make_vocab_map(at::tensor(std::vector<int64_t>(words.begin(), words.end())),
                               target.config().vocab);
  const auto last = static_cast<int64_t>(layers.size()) - 1;
  draft.config =
      draft_config_for(target.config(), static_cast<int64_t>(words.size()), std::move(layers));
  draft.params = init_draft(draft.config, start_from_head(target, draft.vocab), 1);
  pass_through(draft, last);
  Tensor& norm = draft.params.at("norm.weight");
  norm.fill_(1);
  const Tensor x = ops::rms_norm(at::cat(states).to(at::kFloat), norm, draft.config.rms_norm_eps)
                       .to(at::kDouble);
  const Tensor wanted = draft.vocab.target_to_draft.index_select(0, at::tensor(next));
  const Tensor y = at::zeros({x.size(0), draft.config.draft_vocab}, at::kDouble)
                       .scatter_(1, wanted.unsqueeze(1), 1.0);
  const Tensor gram = x.t().mm(x) + at::eye(x.size(1), at::kDouble);
  draft.params.at("lm_head.weight").copy_(at::linalg_solve(gram, x.t().mm(y)).t());
  return draft;
}

}  // namespace aerie::testing
