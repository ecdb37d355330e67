#include "decoding/decoders.h"

#include "common/error.h"
#include "decoding/autoregressive.h"
#include "decoding/eagle3_drafter.h"
#include "decoding/ngram_drafter.h"

namespace aerie {

std::unique_ptr<Decoder> make_decoder(const std::string& name, const std::filesystem::path& draft,
                                      const Speculation& speculation, const TargetModel& target,
                                      const Diffusion& diffusion) {
  if (name.empty()) {
    return make_decoder(draft.empty() ? "autoregressive" : "eagle3", draft, speculation, target);
  }
  AERIE_CHECK(draft.empty() || name == "eagle3",
              "--decoder {} has no use for a draft: leave out --draft {}", name, draft.string());
  if (name == "autoregressive") return std::make_unique<AutoregressiveDecoder>();
  if (name == "ngram") return make_ngram_decoder(speculation);
  if (name == "diffusion") return make_diffusion_decoder(diffusion, target);
  AERIE_CHECK(name == "eagle3",
              "--decoder is \"{}\": known are autoregressive, eagle3, ngram and diffusion", name);
  AERIE_CHECK(!draft.empty(), "--decoder eagle3 needs a draft: give --draft DIR");
  return make_eagle3_decoder(load_draft(draft, target.config()), target, speculation);
}

std::unique_ptr<Decoder> make_eagle3_decoder(const LoadedDraft& draft, const TargetModel& target,
                                             const Speculation& speculation) {
  auto drafter = std::make_unique<Eagle3Drafter>(make_draft(draft, target), draft.vocab,
                                                 target.dtype(), target.device());
  return std::make_unique<SpeculativeDecoder>(std::move(drafter), speculation);
}

std::unique_ptr<Decoder> make_eagle3_decoder(const LoadedDraft& draft, const TargetModel& target,
                                             int64_t draft_tokens) {
  Speculation chain;
  chain.draft_tokens = draft_tokens;
  return make_eagle3_decoder(draft, target, chain);
}

std::unique_ptr<Decoder> make_ngram_decoder(const Speculation& speculation) {
  Speculation chain = speculation;
  chain.width = 1;
  chain.nodes = 0;
  return std::make_unique<SpeculativeDecoder>(std::make_unique<NgramDrafter>(), chain);
}

std::unique_ptr<Decoder> make_diffusion_decoder(Diffusion rule, const TargetModel& target) {
  const ModelConfig& config = target.config();
  if (rule.mask_token < 0) rule.mask_token = config.mask_token;
  AERIE_CHECK(rule.mask_token >= 0,
              "this target has no masks (mask_token_id of its config.json): convert it by aerie "
              "train with train.objective: wedlm, or name a token in their place by --mask-token");
  AERIE_CHECK(rule.mask_token < config.vocab, "--mask-token {} is outside the vocabulary of {}",
              rule.mask_token, config.vocab);
  return std::make_unique<DiffusionDecoder>(rule);
}

}  // namespace aerie
