// Which way of decoding a command was asked for.
#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "decoding/diffusion.h"
#include "decoding/speculative.h"
#include "draft_models/dialects.h"
#include "target_models/model.h"

namespace aerie {

/// "autoregressive", "eagle3" (needs a draft), "ngram" or "diffusion"; "": eagle3 with a draft,
/// else autoregressive. `draft` is an exported directory. Throws Error for an unknown name and for
/// a draft that is missing or that the decoder has no use for.
std::unique_ptr<Decoder> make_decoder(const std::string& name, const std::filesystem::path& draft,
                                      const Speculation& speculation, const TargetModel& target,
                                      const Diffusion& diffusion = {});

/// A draft made for `target`.
std::unique_ptr<Decoder> make_eagle3_decoder(const LoadedDraft& draft, const TargetModel& target,
                                             const Speculation& speculation);
/// Guessing in chains of `draft_tokens`.
std::unique_ptr<Decoder> make_eagle3_decoder(const LoadedDraft& draft, const TargetModel& target,
                                             int64_t draft_tokens);
/// Without a draft: guesses what followed the same words before.
std::unique_ptr<Decoder> make_ngram_decoder(const Speculation& speculation);
/// With the target's own masks, unless `rule` names a token for them. Throws Error if there are
/// none.
std::unique_ptr<Decoder> make_diffusion_decoder(Diffusion rule, const TargetModel& target);

}  // namespace aerie
