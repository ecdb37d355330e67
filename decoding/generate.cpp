// aerie generate: answers prompts and writes one row each, in the order of the input.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/files.h"
#include "common/progress.h"
#include "decoding/acceptance_count.h"
#include "decoding/clock.h"
#include "decoding/commands.h"
#include "decoding/flags.h"
#include "decoding/text_target.h"

namespace aerie {

namespace {

EngineOptions engine_options(const GenerateFlags& flags, const TextTarget& target,
                             std::span<const Request> requests) {
  EngineOptions options{{flags.concurrency, kRowBudget},
                        target.pages_for(requests, flags.concurrency)};
  if (flags.adaptive) options.cost = measure_step_cost(*target.model, kRowBudget);
  return options;
}

Json output_row(const TextTarget& target, const PromptRow& prompt, const Request& request,
                const Completion& done) {
  AcceptanceCount count;
  count.add(done);
  return {{"id", prompt.id},
          {"prompt_tokens", request.prompt.size()},
          {"tokens", done.tokens},
          {"text", target.decode(done.tokens)},
          {"finish_reason", to_string(done.finish)},
          {"acceptance_length", count.drafted() ? Json(count.length()) : Json(nullptr)}};
}

}  // namespace

void generate_command(const GenerateFlags& flags) {
  const std::vector<PromptRow> rows = read_prompts(flags.input);
  const TextTarget target(flags.target, flags.device, flags.dtype);
  const std::unique_ptr<Decoder> decoder = decoder_of(flags, *target.model);
  const std::vector<Request> requests = make_requests(
      target, rows, {flags.max_new_tokens, flags.temperature, flags.seed, flags.ignore_eos});
  Engine engine(*target.model, *decoder, engine_options(flags, target, requests));
  Progress progress("generate", static_cast<int64_t>(rows.size()), "prompts");
  const double start = seconds_now();
  AcceptanceCount total;
  int64_t finished = 0;
  const auto completions = run_requests(engine, requests, [&](size_t, const Completion& done) {
    total.add(done);
    progress.update(++finished);
  });
  const double seconds = seconds_now() - start;
  progress.finish();
  std::string out;
  for (size_t i = 0; i < rows.size(); ++i) {
    out += output_row(target, rows[i], requests[i], completions[i]).dump() + "\n";
  }
  write_file_atomic(flags.output, out);
  if (!flags.json) return;
  const Json summary{{"prompts", rows.size()},
                     {"tokens", total.tokens()},
                     {"seconds", seconds},
                     {"tokens_per_second", total.tokens() / seconds},
                     {"acceptance_length", total.drafted() ? Json(total.length()) : Json(nullptr)},
                     {"accept_rate", total.rate_by_depth()},
                     {"output", flags.output.string()}};
  std::printf("%s\n", summary.dump().c_str());
}

}  // namespace aerie
