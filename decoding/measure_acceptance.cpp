// What the trainer's evaluation asks for: decode held-out prompts with the draft as it is now.
#include "decoding/acceptance_count.h"
#include "decoding/commands.h"
#include "decoding/eagle3_drafter.h"
#include "decoding/flags.h"

namespace aerie {
namespace {

constexpr int64_t kConcurrency = 8;

std::vector<Request> requests_for(const TargetModel& target,
                                  const std::vector<MediaTokens>& prompts, int64_t max_new_tokens) {
  std::vector<Request> requests;
  for (const MediaTokens& prompt : prompts) {
    Request request;
    request.prompt = prompt.ids;
    request.media = prompt.media;
    request.max_new_tokens = max_new_tokens;
    request.stop_tokens = target.config().eos_tokens;
    requests.push_back(std::move(request));
  }
  return requests;
}

Acceptance acceptance_of(const std::vector<Completion>& completions) {
  AcceptanceCount count;
  std::vector<Acceptance::Prompt> prompts;
  for (const Completion& completion : completions) {
    count.add(completion);
    // The token that the prompt's own forward gives is not counted.
    prompts.push_back(
        {static_cast<int64_t>(completion.tokens.size()) - 1, completion.stats.forwards});
  }
  Acceptance acceptance = count.acceptance();
  acceptance.prompts = std::move(prompts);
  return acceptance;
}

}  // namespace

Acceptance measure_acceptance(const TargetModel& target, const DraftConfig& config,
                              const DraftParams& params, const VocabMap& vocab,
                              const std::vector<MediaTokens>& prompts, const MeasureFlags& flags) {
  const std::vector<Request> requests = requests_for(target, prompts, flags.max_new_tokens);
  const Eagle3Draft draft(config, params, target.embed_weight(), target.dtype());
  const auto measured = [&](const TreeFlags& shape) {
    auto drafter = std::make_unique<Eagle3Drafter>(draft, vocab, target.dtype(), target.device());
    SpeculativeDecoder decoder(std::move(drafter), speculation_of(shape, flags.draft_tokens));
    Engine engine(target, decoder,
                  {{kConcurrency, kRowBudget}, pages_for_requests(requests, kConcurrency)});
    return acceptance_of(run_requests(engine, requests));
  };
  Acceptance acceptance = measured({});
  if (flags.tree) acceptance.tree_length = measured(flags).length;
  return acceptance;
}

}  // namespace aerie
