#include "decoding/flags.h"

#include "common/error.h"

namespace aerie {

Speculation speculation_of(const TreeFlags& flags, int64_t draft_tokens) {
  Speculation rule{draft_tokens};
  rule.adaptive = flags.adaptive;
  if (!flags.tree) return rule;
  rule.width = flags.tree_width;
  rule.nodes = flags.tree_nodes;
  return rule;
}

std::unique_ptr<Decoder> decoder_of(const DecoderFlags& flags, const TargetModel& target) {
  AERIE_CHECK(flags.decoder != "diffusion" || !(flags.tree || flags.adaptive),
              "--decoder diffusion has neither --tree nor --adaptive: they are of drafts");
  AERIE_CHECK(!flags.tree || !flags.draft.empty(), "--tree is of drafts: give --draft DIR");
  AERIE_CHECK(!flags.adaptive || !flags.draft.empty() || flags.decoder == "ngram",
              "--adaptive is of guesses: give --draft DIR, or --decoder ngram");
  return make_decoder(flags.decoder, flags.draft, speculation_of(flags, flags.draft_tokens), target,
                      diffusion_of(flags, !flags.unverified));
}

SchedulerLimits limits_of(const ScheduleFlags& flags, const std::string& policy,
                          int64_t row_budget) {
  AERIE_CHECK(flags.inter_token_ms >= 0, "--inter-token-ms is {}: a time, or 0 for none",
              flags.inter_token_ms);
  SchedulerLimits limits;
  limits.max_sequences = flags.max_sequences;
  limits.row_budget = row_budget;
  limits.policy = parse_policy(policy);
  limits.inter_token_seconds = flags.inter_token_ms / 1e3;
  limits.evict = flags.evict;
  limits.share_prefixes = flags.prefix_cache;
  return limits;
}

bool needs_cost(const TreeFlags& tree, const ScheduleFlags& schedule) {
  return tree.adaptive || schedule.inter_token_ms > 0;
}

Diffusion diffusion_of(const DiffusionFlags& flags, bool exact) {
  return {flags.window, {flags.entropy_threshold, flags.position_penalty}, exact, flags.mask_token};
}

}  // namespace aerie
