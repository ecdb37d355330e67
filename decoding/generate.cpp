// aerie generate: answers a file of prompts, one row each in the order of the input, or one prompt
// on stdout.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/files.h"
#include "common/log.h"
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

std::vector<PromptRow> rows_of(const GenerateFlags& flags) {
  if (flags.prompt.empty()) return read_prompts(flags.input);
  return {{"prompt", parse_conversation(Json{{"prompt", flags.prompt}}.dump())}};
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

std::string output_rows(const TextTarget& target, std::span<const PromptRow> prompts,
                        std::span<const Request> requests, std::span<const Completion> done) {
  std::string rows;
  for (size_t i = 0; i < prompts.size(); ++i) {
    rows += output_row(target, prompts[i], requests[i], done[i]).dump() + "\n";
  }
  return rows;
}

Json summary(size_t prompts, const AcceptanceCount& total, double seconds) {
  return {{"prompts", prompts},
          {"tokens", total.tokens()},
          {"seconds", seconds},
          {"tokens_per_second", total.tokens() / seconds},
          {"acceptance_length", total.drafted() ? Json(total.length()) : Json(nullptr)},
          {"accept_rate", total.rate_by_depth()}};
}

std::string summary_line(const AcceptanceCount& total, double seconds) {
  return fmt::format(
      "{} tokens, {:.1f} a second{}", total.tokens(), total.tokens() / seconds,
      total.drafted() ? fmt::format(", acceptance length {:.2f}", total.length()) : "");
}

}  // namespace

void generate_command(const GenerateFlags& flags) {
  const std::vector<PromptRow> rows = rows_of(flags);
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
  log_info(summary_line(total, seconds));
  Json printed = summary(rows.size(), total, seconds);
  if (flags.prompt.empty()) {
    write_file_atomic(flags.output, output_rows(target, rows, requests, completions));
    printed["output"] = flags.output.string();
  } else {
    printed["text"] = target.decode(completions.front().tokens);
    if (!flags.json) std::printf("%s\n", printed["text"].get_ref<const std::string&>().c_str());
  }
  if (flags.json) std::printf("%s\n", printed.dump().c_str());
}

}  // namespace aerie
