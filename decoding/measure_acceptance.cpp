// What the trainer's evaluation asks for: decode held-out prompts with the draft as it is now.
#include "decoding/acceptance_count.h"
#include "decoding/commands.h"
#include "decoding/eagle3_drafter.h"
#include "decoding/speculative.h"

namespace aerie {

Acceptance measure_acceptance(const TargetModel& target, const DraftConfig& config,
                              const DraftParams& params, const VocabMap& vocab,
                              const std::vector<MediaTokens>& prompts, int64_t draft_tokens,
                              int64_t max_new_tokens) {
  constexpr int64_t kConcurrency = 8;
  std::vector<Request> requests;
  for (const MediaTokens& prompt : prompts) {
    Request request;
    request.prompt = prompt.ids;
    request.media = prompt.media;
    request.max_new_tokens = max_new_tokens;
    request.stop_tokens = target.config().eos_tokens;
    requests.push_back(std::move(request));
  }
  auto drafter = std::make_unique<Eagle3Drafter>(
      Eagle3Draft(config, params, target.embed_weight(), target.dtype()), vocab, target.dtype(),
      target.device());
  SpeculativeDecoder decoder(std::move(drafter), Speculation{draft_tokens});
  Engine engine(target, decoder,
                {{kConcurrency, kRowBudget}, pages_for_requests(requests, kConcurrency)});
  AcceptanceCount count;
  std::vector<Acceptance::Prompt> prompts_done;
  for (const Completion& completion : run_requests(engine, requests)) {
    count.add(completion);
    // The token that the prompt's own forward gives is not counted.
    prompts_done.push_back(
        {static_cast<int64_t>(completion.tokens.size()) - 1, completion.stats.forwards});
  }
  Acceptance acceptance = count.acceptance();
  acceptance.prompts = std::move(prompts_done);
  return acceptance;
}

}  // namespace aerie
